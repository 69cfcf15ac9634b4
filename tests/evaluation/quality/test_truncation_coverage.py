"""Truncation diagnostics against brute force, one position at a time."""

import json
import math

import numpy as np
import pytest
import torch

from textgen.evaluation.decoding.prompts import Prompt
from textgen.evaluation.decoding.strategies import STRATEGIES
from textgen.evaluation.decoding.truncation import is_truncation
from textgen.evaluation.quality import teacher_forcing
from textgen.evaluation.quality.truncation_coverage import METRICS, UNTRUNCATED, truncation_coverage

VOCABULARY = 300


def build_prompts() -> list[Prompt]:
    """Random prompts and references of several lengths; one reference is empty."""
    draw = np.random.default_rng(0)
    lengths = [(5, 9), (5, 12), (8, 12), (8, 0), (3, 1), (5, 12)]
    return [
        Prompt(str(n), tuple(draw.integers(1, 300, p).tolist()), "", tuple(draw.integers(1, 300, r).tolist()))
        for n, (p, r) in enumerate(lengths)
    ]


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


def test_values_agree_with_brute_force(loaded):
    prompts = build_prompts()
    rows = {row["strategy"]: row for row in truncation_coverage(
        loaded, prompts, [STRATEGIES[name] for name in ["greedy", *RULES, "mirostat"]], seed=0
    )}  # fmt: skip
    assert list(rows) == [UNTRUNCATED, *RULES]
    for name, rule in {UNTRUNCATED: lambda p: p >= 0, **RULES}.items():
        expected = by_brute_force(loaded.model, prompts, rule)
        assert {key: rows[name][key] for key in expected} == pytest.approx(expected, rel=1e-4), name
        for metric in METRICS:
            low, high = rows[name][f"{metric}_interval"]
            assert low - 1e-9 <= rows[name][metric] <= high + 1e-9
    assert rows["top_k"]["kept_size"] == 40
    assert rows["top_k"]["settings"] == {"top_k": 40}
    assert 0 < rows["min_p"]["human_coverage"] < rows["top_p"]["human_coverage"] < 1
    assert rows[UNTRUNCATED]["human_coverage"] == 1
    assert rows[UNTRUNCATED]["human_coverage_interval"] == [1, 1], "known, and not estimated from a sample"
    assert json.loads(json.dumps(list(rows.values()))) == list(rows.values())


def test_a_temperature_changes_the_entropy_and_keeps_everything(loaded):
    untruncated, at_temperature = truncation_coverage(loaded, build_prompts(), [STRATEGIES["temperature"]], seed=0)
    assert at_temperature["kept_size"] == VOCABULARY
    assert at_temperature["kept_mass"] == pytest.approx(1, abs=1e-5)
    assert at_temperature["entropy"] < untruncated["entropy"] - 0.1


def test_every_truncation_strategy_has_a_row(loaded):
    rows = truncation_coverage(loaded, build_prompts(), list(STRATEGIES.values()), seed=0)
    assert [row["strategy"] for row in rows[1:]] == [s.name for s in STRATEGIES.values() if is_truncation(s)]
    assert len(rows) == 11
    for row in rows[1:]:
        assert 1 <= row["kept_size_median"] <= VOCABULARY
        assert 0 < row["kept_mass"] <= 1 + 1e-6
        assert 0 <= row["entropy"] <= math.log(VOCABULARY)


def test_there_are_no_rows_without_a_truncation_strategy_or_without_references(loaded):
    assert truncation_coverage(loaded, build_prompts(), [STRATEGIES["greedy"]], seed=0) == []
    assert truncation_coverage(loaded, build_prompts()[3:4], [STRATEGIES["top_p"]], seed=0) == []


def test_values_do_not_depend_on_batches(loaded, monkeypatch):
    together = truncation_coverage(loaded, build_prompts(), [STRATEGIES["top_p"]], seed=0)
    monkeypatch.setattr(teacher_forcing, "_MAX_POSITIONS", 1)
    monkeypatch.setattr(teacher_forcing, "_CHUNK", 5)
    alone = truncation_coverage(loaded, build_prompts(), [STRATEGIES["top_p"]], seed=0)
    for one, other in zip(together, alone, strict=True):
        assert {name: other[name] for name in METRICS} == pytest.approx({name: one[name] for name in METRICS}, rel=1e-5)


def test_two_processes_find_what_one_finds(one_and_two_processes):
    one, (two, other) = one_and_two_processes
    assert two["coverage"] == other["coverage"]
    assert np.array(two["coverage"]) == pytest.approx(np.array(one["coverage"]), rel=1e-5)
    assert np.shape(two["coverage"]) == (4, len(METRICS))
