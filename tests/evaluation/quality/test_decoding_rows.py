"""The rows of the decoding table: own nll by brute force, the judge's column, MAUVE, and what differs from what."""

import json

import numpy as np
import pytest
import torch

from textgen.evaluation.decoding.prompts import Prompt
from textgen.evaluation.decoding.strategies import STRATEGIES
from textgen.evaluation.quality import decoding_rows as rows_module
from textgen.evaluation.quality import mauve
from textgen.evaluation.quality.decoding_rows import HUMAN, Scoring, Written, continuation_nlls, decoding_rows
from textgen.evaluation.quality.judge import Judge, judge_nlls

NEW = 8


@pytest.fixture
def model(tiny_gpt2):
    made = tiny_gpt2(0, tie_word_embeddings=False).eval()
    with torch.no_grad():
        made.lm_head.weight.mul_(15)
    return made


def written(tokenizer, name: str | None, count: int = 6, samples: int = 1, seed: int = 0) -> Written:
    """Random tokens as continuations of random prompts; the prompts are the same for all."""
    prompts_draw, draw = np.random.default_rng(1), np.random.default_rng(seed)
    prompts = []
    for number in range(count):
        ids = tuple(prompts_draw.integers(1, 300, size=5).tolist())
        prompts.append(Prompt(str(number), ids, tokenizer.decode(ids), ()))
    repeated = [prompt for prompt in prompts for _ in range(samples)]
    ids = [
        tuple(draw.integers(1, 300, size=draw.integers(0 if number else 2, NEW + 1)).tolist())
        for number in range(len(repeated))
    ]
    return Written(STRATEGIES[name] if name else None, repeated, [tokenizer.decode(i) for i in ids], ids)


def test_own_nll_is_that_of_the_renormalised_nucleus_by_brute_force(accelerator, model, tokenizer):
    texts = written(tokenizer, "top_p")
    nlls, own = continuation_nlls(accelerator, model, texts)
    for prompt, ids, nll, own_nll in zip(texts.prompts, texts.token_ids, nlls, own, strict=True):
        expected, expected_own = 0.0, 0.0
        for place, token in enumerate(ids):
            with torch.no_grad():
                logits = model(torch.tensor([[*prompt.token_ids, *ids[:place]]])).logits[0, -1]
            p = logits.double().softmax(-1).numpy()
            order = np.argsort(-p)
            nucleus = set(order[: int(np.argmax(np.cumsum(p[order]) >= 0.95)) + 1].tolist()) | {token}
            expected -= np.log(p[token])
            expected_own -= np.log(p[token] / p[list(nucleus)].sum())
        assert nll == pytest.approx(expected, rel=1e-4)
        assert own_nll == pytest.approx(expected_own, rel=1e-4)
        assert own_nll <= nll


def test_own_nll_takes_the_temperature_and_is_missing_where_there_is_no_distribution(accelerator, model, tokenizer):
    texts = written(tokenizer, "temperature")
    _, own = continuation_nlls(accelerator, model, texts)
    with torch.no_grad():
        ids = torch.tensor([[*texts.prompts[0].token_ids, *texts.token_ids[0]]])
        log_p = (model(ids).logits[0] / 0.8).double().log_softmax(-1)
    expected = -sum(float(log_p[4 + place, token]) for place, token in enumerate(texts.token_ids[0]))
    assert own[0] == pytest.approx(expected, rel=1e-4)
    for name in ("greedy", "beam", "repetition_penalty", "mirostat", None):
        assert continuation_nlls(accelerator, model, written(tokenizer, name))[1] is None


def rows_of(accelerator, model, tokenizer, *, judge=None, count=6, samples=1) -> dict:
    found = [
        written(tokenizer, "greedy", count, seed=2),
        written(tokenizer, "top_p", count, samples, seed=3),
        written(tokenizer, None, count, seed=4),
    ]
    rows = decoding_rows(accelerator, model, found, Scoring(NEW, 0, 0.1, judge))
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    return {row["strategy"]: row for row in rows}


def test_a_row_holds_figures_differences_and_what_would_be_enough(accelerator, model, tokenizer):
    rows = rows_of(accelerator, model, tokenizer, samples=3)
    assert list(rows) == ["greedy", "top_p", HUMAN]
    top_p, human = rows["top_p"], rows[HUMAN]
    assert (top_p["prompts"], top_p["continuations"], human["continuations"]) == (6, 18, 6)
    assert top_p["nll_minus_human"] == pytest.approx(top_p["nll"] - human["nll"])
    assert top_p["nll_minus_baseline"] == pytest.approx(top_p["nll"] - rows["greedy"]["nll"])
    assert top_p["baseline"] == "greedy"
    assert top_p["nll_prompts_needed"] >= 2
    assert rows["greedy"]["own_nll"] is human["own_nll"] is None
    assert top_p["own_nll"] < top_p["nll"]
    assert not any("minus" in key or "needed" in key for key in human)
    assert "judge_bits_per_byte" not in human
    assert top_p["mauve"] is None
    assert "6 continuations" in top_p["mauve_reason"]


def test_the_judge_s_column_is_bits_over_bytes(accelerator, model, tokenizer, tiny_gpt2):
    judge = Judge("judge", tiny_gpt2(5).eval(), tokenizer, 64)
    rows = rows_of(accelerator, model, tokenizer, judge=judge)
    texts = written(tokenizer, None, seed=4)
    nats = judge_nlls(accelerator, judge, [prompt.text for prompt in texts.prompts], texts.texts)
    size = sum(len(text.encode()) for text in texts.texts)
    assert rows[HUMAN]["judge_bits_per_byte"] == pytest.approx(sum(nats) / size / np.log(2))
    assert {"judge_bits_per_byte_interval", "judge_bits_per_byte_minus_human"} <= rows["top_p"].keys()


def test_mauve_is_of_the_first_sample_and_by_the_judge_s_features_if_there_is_one(
    accelerator, model, tokenizer, tiny_gpt2, monkeypatch
):
    monkeypatch.setattr(rows_module, "LEAST", 30)
    monkeypatch.setattr(mauve, "LEAST", 30)
    own = rows_of(accelerator, model, tokenizer, count=30, samples=2)["top_p"]
    assert own["mauve_texts"] == 30
    assert own["mauve_reason"] is None
    human, machine = (written(tokenizer, name, 30, n, seed=s) for name, n, s in ((None, 1, 4), ("top_p", 2, 3)))
    sequences = [
        [[*prompt.token_ids, *ids] for prompt, ids in zip(one.prompts[::step], one.token_ids[::step], strict=True)]
        for one, step in ((human, 1), (machine, 2))
    ]
    p, q = (mauve.features(accelerator, model, one) for one in sequences)
    assert own["mauve"] == pytest.approx(np.mean([mauve.mauve(p, q, seed=seed) for seed in range(5)]), abs=1e-6)
    judge = Judge("judge", tiny_gpt2(5).eval(), tokenizer, 64)
    judged = rows_of(accelerator, model, tokenizer, judge=judge, count=30)["top_p"]
    assert 0 < judged["mauve"] <= 1
    assert judged["mauve"] != own["mauve"]
