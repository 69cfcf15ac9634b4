"""The rows of the decoding table: own nll by brute force, the judge's column, MAUVE, and differences."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from textgen.evaluation.config import EvaluationConfig
from textgen.evaluation.decoding.generate import Continuation, StrategyOutput
from textgen.evaluation.decoding.prompts import Prompt
from textgen.evaluation.decoding.strategies import HUMAN, STRATEGIES
from textgen.evaluation.quality import decoding_rows as rows_module
from textgen.evaluation.quality import mauve
from textgen.evaluation.quality.decoding_rows import continuation_nlls, decoding_rows, measure_outputs
from textgen.evaluation.quality.judge import judge_nlls

NEW = 8


@pytest.fixture
def judge(loaded, tiny_gpt2):
    return replace(loaded, model=tiny_gpt2(5).eval())


def random_output(tokenizer, name: str, count: int = 6, samples: int = 1, seed: int = 0) -> StrategyOutput:
    """Random tokens as a strategy's continuations of random prompts; the prompts are the same for all strategies."""
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
    continuations = [
        Continuation(prompt.id, prompt.text, name, number % samples, tokenizer.decode(tokens), tokens)
        for number, (prompt, tokens) in enumerate(zip(repeated, ids, strict=True))
    ]
    return StrategyOutput(HUMAN if name == "human" else STRATEGIES[name], repeated, continuations)


def token_ids(output: StrategyOutput) -> list[tuple[int, ...]]:
    return [continuation.token_ids for continuation in output.continuations]


def test_own_nll_is_that_of_the_renormalized_nucleus_by_brute_force(loaded):
    output = random_output(loaded.tokenizer, "top_p")
    nlls, own = continuation_nlls(loaded, output)
    for prompt, ids, nll, own_nll in zip(output.prompts, token_ids(output), nlls, own, strict=True):
        expected, expected_own = 0.0, 0.0
        for place, token in enumerate(ids):
            with torch.no_grad():
                logits = loaded.model(torch.tensor([[*prompt.token_ids, *ids[:place]]])).logits[0, -1]
            p = logits.double().softmax(-1).numpy()
            order = np.argsort(-p)
            nucleus = set(order[: int(np.argmax(np.cumsum(p[order]) >= 0.95)) + 1].tolist()) | {token}
            expected -= np.log(p[token])
            expected_own -= np.log(p[token] / p[list(nucleus)].sum())
        assert nll == pytest.approx(expected, rel=1e-4)
        assert own_nll == pytest.approx(expected_own, rel=1e-4)
        assert own_nll <= nll


def test_own_nll_is_at_the_strategy_s_temperature(loaded):
    output = random_output(loaded.tokenizer, "temperature")
    _, own = continuation_nlls(loaded, output)
    prompt, continuation = output.prompts[0].token_ids, token_ids(output)[0]
    with torch.no_grad():
        log_p = (loaded.model(torch.tensor([[*prompt, *continuation]])).logits[0] / 0.8).double().log_softmax(-1)
    expected = -sum(float(log_p[4 + place, token]) for place, token in enumerate(continuation))
    assert own[0] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", ["greedy", "beam", "repetition_penalty", "mirostat", "human"])
def test_there_is_no_own_nll_without_a_distribution_to_draw_from(loaded, name):
    assert continuation_nlls(loaded, random_output(loaded.tokenizer, name))[1] is None


def rows_of(loaded, *, judge=None, count=6, samples=1) -> dict:
    outputs = [
        random_output(loaded.tokenizer, "greedy", count, seed=2),
        random_output(loaded.tokenizer, "top_p", count, samples, seed=3),
        random_output(loaded.tokenizer, "human", count, seed=4),
    ]
    config = EvaluationConfig(max_new_tokens=NEW)
    estimates = measure_outputs(loaded, outputs, config, seed=0, judge=judge)
    rows = decoding_rows(loaded, outputs, estimates, config, seed=0, judge=judge)
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    return {row["strategy"]: row for row in rows}


def test_a_row_holds_metrics_differences_and_the_prompts_needed(loaded):
    rows = rows_of(loaded, samples=3)
    assert list(rows) == ["greedy", "top_p", "human"]
    top_p, human = rows["top_p"], rows["human"]
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
    assert top_p["mauve_texts"] == 6
    assert "6 continuations" in top_p["mauve_reason"]
    assert "at least 100" in top_p["mauve_reason"]
    assert human["mauve"] is None
    assert "reference" in human["mauve_reason"]


def test_the_judge_s_column_is_bits_over_bytes(loaded, judge):
    rows = rows_of(loaded, judge=judge)
    human = random_output(loaded.tokenizer, "human", seed=4)
    nats = judge_nlls(judge, [prompt.text for prompt in human.prompts], human.texts)
    size = sum(len(text.encode()) for text in human.texts)
    assert rows["human"]["judge_bits_per_byte"] == pytest.approx(sum(nats) / size / np.log(2))
    assert {"judge_bits_per_byte_interval", "judge_bits_per_byte_minus_human"} <= rows["top_p"].keys()


def test_mauve_is_of_first_samples_with_features_of_the_judge_if_there_is_one(loaded, judge, monkeypatch):
    monkeypatch.setattr(rows_module, "MIN_TEXTS", 30)
    own = rows_of(loaded, count=30, samples=2)["top_p"]
    assert own["mauve_texts"] == 30
    assert own["mauve_reason"] is None
    human = random_output(loaded.tokenizer, "human", 30, seed=4)
    machine = random_output(loaded.tokenizer, "top_p", 30, samples=2, seed=3)
    sequences = [
        [[*prompt.token_ids, *ids] for prompt, ids in zip(one.prompts[::step], token_ids(one)[::step], strict=True)]
        for one, step in ((human, 1), (machine, 2))
    ]
    p, q = (mauve.text_features(loaded, one) for one in sequences)
    assert own["mauve"] == pytest.approx(np.mean([mauve.mauve(p, q, seed=seed) for seed in range(5)]), abs=1e-6)
    judged = rows_of(loaded, judge=judge, count=30)["top_p"]
    assert 0 < judged["mauve"] <= 1
    assert judged["mauve"] != own["mauve"]
