"""Diagnostics of truncation against brute force, one position at a time."""

import json
import math

import numpy as np
import pytest
import torch

from textgen.evaluation.decoding.prompts import Prompt
from textgen.evaluation.decoding.strategies import STRATEGIES
from textgen.evaluation.decoding.truncation import is_truncation
from textgen.evaluation.quality import teacher_forcing
from textgen.evaluation.quality.teacher_forcing import Given, plan_batches, read_continuations
from textgen.evaluation.quality.truncation_coverage import FIGURES, UNTRUNCATED, diagnose

VOCABULARY = 300


def build_prompts() -> list[Prompt]:
    """Of several lengths, with references of several lengths, one of them empty."""
    draw = np.random.default_rng(0)
    lengths = [(5, 9), (5, 12), (8, 12), (8, 0), (3, 1), (5, 12)]
    return [
        Prompt(str(n), tuple(draw.integers(1, 300, p).tolist()), "", tuple(draw.integers(1, 300, r).tolist()))
        for n, (p, r) in enumerate(lengths)
    ]


@pytest.fixture
def model(tiny_gpt2):
    made = tiny_gpt2(0, tie_word_embeddings=False).eval()
    with torch.no_grad():
        made.lm_head.weight.mul_(15)  # or all tokens are as good as equally probable
    return made


def by_brute_force(model, prompts, keeps) -> dict[str, float]:
    """Means over positions, from the probabilities of one position at a time, in float64 and without any batch."""
    size, mass, entropy, covered = [], [], [], []
    for prompt in prompts:
        for place, token in enumerate(prompt.reference_ids):
            with torch.no_grad():
                logits = model(torch.tensor([[*prompt.token_ids, *prompt.reference_ids[:place]]])).logits[0, -1]
            p = logits.double().softmax(-1).numpy()
            kept = keeps(p)
            q = p[kept] / p[kept].sum()
            size.append(kept.sum())
            mass.append(p[kept].sum())
            entropy.append(-(q * np.log(q)).sum())
            covered.append(kept[token])
    found = {"kept_size": size, "kept_mass": mass, "entropy": entropy, "human_coverage": covered}
    return {name: float(np.mean(values)) for name, values in found.items()} | {
        "kept_size_median": float(np.median(size)), "positions": len(size)
    }  # fmt: skip


def nucleus(p: np.ndarray) -> np.ndarray:
    order = np.argsort(-p)
    kept = np.zeros(len(p), dtype=bool)
    kept[order[: int(np.argmax(np.cumsum(p[order]) >= 0.95)) + 1]] = True
    return kept


RULES = {
    "top_k": lambda p: p >= np.sort(p)[-40],
    "top_p": nucleus,
    "min_p": lambda p: p >= 0.05 * p.max(),
    "p_less": lambda p: p >= np.square(p).sum(),
}


def test_the_figures_are_those_of_brute_force(accelerator, model):
    prompts = build_prompts()
    rows = {row["strategy"]: row for row in diagnose(
        accelerator, model, prompts, [STRATEGIES[name] for name in ["greedy", *RULES, "mirostat"]], seed=0
    )}  # fmt: skip
    assert list(rows) == [UNTRUNCATED, *RULES]
    for name, rule in {UNTRUNCATED: lambda p: p >= 0, **RULES}.items():
        expected = by_brute_force(model, prompts, rule)
        assert {key: rows[name][key] for key in expected} == pytest.approx(expected, rel=1e-4), name
        for figure in FIGURES:
            low, high = rows[name][f"{figure}_interval"]
            assert low - 1e-9 <= rows[name][figure] <= high + 1e-9
    assert rows["top_k"]["kept_size"] == 40
    assert rows["top_k"]["settings"] == {"top_k": 40}
    assert 0 < rows["min_p"]["human_coverage"] < rows["top_p"]["human_coverage"] < 1
    assert rows[UNTRUNCATED]["human_coverage"] == 1
    assert json.loads(json.dumps(list(rows.values()))) == list(rows.values())


def test_a_temperature_changes_the_entropy_and_keeps_everything(accelerator, model):
    untruncated, at_temperature = diagnose(accelerator, model, build_prompts(), [STRATEGIES["temperature"]], seed=0)
    assert at_temperature["kept_size"] == VOCABULARY
    assert at_temperature["kept_mass"] == pytest.approx(1, abs=1e-5)
    assert at_temperature["entropy"] < untruncated["entropy"] - 0.1


def test_every_truncating_strategy_of_the_table_has_a_row(accelerator, model):
    rows = diagnose(accelerator, model, build_prompts(), list(STRATEGIES.values()), seed=0)
    assert [row["strategy"] for row in rows[1:]] == [s.name for s in STRATEGIES.values() if is_truncation(s)]
    assert len(rows) >= 10
    for row in rows[1:]:
        assert 1 <= row["kept_size_median"] <= VOCABULARY
        assert 0 < row["kept_mass"] <= 1 + 1e-6
        assert 0 <= row["entropy"] <= math.log(VOCABULARY)


def test_without_a_strategy_that_truncates_or_a_human_word_there_are_no_rows(accelerator, model):
    assert diagnose(accelerator, model, build_prompts(), [STRATEGIES["greedy"]], seed=0) == []
    assert diagnose(accelerator, model, build_prompts()[3:4], [STRATEGIES["top_p"]], seed=0) == []


def test_figures_do_not_depend_on_batches(accelerator, model, monkeypatch):
    together = diagnose(accelerator, model, build_prompts(), [STRATEGIES["top_p"]], seed=0)
    monkeypatch.setattr(teacher_forcing, "_POSITIONS_AT_ONCE", 1)
    monkeypatch.setattr(teacher_forcing, "_READ_AT_ONCE", 5)
    alone = diagnose(accelerator, model, build_prompts(), [STRATEGIES["top_p"]], seed=0)
    for one, other in zip(together, alone, strict=True):
        assert {name: other[name] for name in FIGURES} == pytest.approx({name: one[name] for name in FIGURES}, rel=1e-5)


def test_batches_hold_every_continuation_once_and_no_more_positions_than_allowed():
    draw = np.random.default_rng(1)
    given = [Given([1] * int(p), [2] * int(c)) for p, c in draw.integers([1, 1], [60, 90], size=(300, 2))]
    batches = plan_batches(given, range(300))
    assert sorted(number for batch in batches for number in batch) == list(range(300))
    for batch in batches:
        longest = max(len(given[n].prompt) + len(given[n].continuation) for n in batch)
        assert len(batch) == 1 or len(batch) * (longest - min(len(given[n].prompt) for n in batch)) <= 512
    assert len(batches) < 100


@pytest.mark.parametrize("architecture", ["tiny_gpt2", "tiny_llama"])
def test_a_reader_sees_the_model_s_own_log_probabilities(accelerator, request, architecture):
    model = request.getfixturevalue(architecture)(0).eval()
    given = [Given([7, 8, 9], [4, 5]), Given([3], []), Given([1, 2], [6, 7, 8, 9])]
    found = read_continuations(accelerator, model, given, lambda _, p, t: -p.gather(1, t[:, None]), columns=1)
    assert [one.shape for one in found] == [(2, 1), (0, 1), (4, 1)]
    for one, nll in zip(given, found, strict=True):
        for place, token in enumerate(one.continuation):
            with torch.no_grad():
                logits = model(torch.tensor([[*one.prompt, *one.continuation[:place]]])).logits[0, -1]
            assert nll[place, 0] == pytest.approx(-float(logits.double().log_softmax(-1)[token]), rel=1e-5)
