"""Sums by document, the figures made of them, and the hardest tokens: by hand, and by counting one token at a time."""

import json
import math

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from textgen.data.document import Document
from textgen.evaluation.config import EvaluationConfig
from textgen.evaluation.measure_model import measure_tokens
from textgen.evaluation.perplexity import document_sums
from textgen.evaluation.perplexity.document_sums import (
    PassageScore,
    Tally,
    add_up,
    hardest_tokens,
    tally_passage,
    token_figures,
)
from textgen.evaluation.perplexity.windows import Passage
from textgen.model.token_scores import TokenScores

PASSAGE = Passage(  # reads five tokens and scores the last four of six: after 2, 3, 4 and 5 of them
    inputs=np.array([7, 1, 2, 3, 4]), targets=np.array([2, 3, 4, 5]), owners=np.array([3, 3, 3, 8])
)
SCORES = TokenScores(
    nll=torch.tensor([1.0, 5.0, 2.0, 4.0]),
    likeliest=torch.tensor([2, 9, 4, 6]),
    confidence=torch.tensor([0.35, 0.99, 1.0, 0.3125]),
    among_top=torch.tensor([True, False, True, True]),
)


def test_tally_by_hand():
    score = tally_passage(PASSAGE, SCORES)
    first, second = score.tallies
    assert (first.nll, first.tokens, first.top_1, first.top_5) == (8.0, 3, 2, 2)
    assert (second.nll, second.tokens, second.top_1, second.top_5) == (4.0, 1, 0, 1)
    assert first.by_position == [[1, 1, 1.0], [2, 2, 7.0]]  # after 2 tokens; after 3 and 4
    assert second.by_position == [[3, 1, 4.0]]
    assert first.by_confidence == [[3, 1, 1.0, pytest.approx(0.35)], [9, 2, 1.0, pytest.approx(1.99)]]
    assert [row[:3] for row in score.hardest] == [[5.0, 1, 9], [4.0, 3, 6], [2.0, 2, 4], [1.0, 0, 2]]


@pytest.mark.parametrize(("context", "number"), [(1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (1024, 10), (1025, 11)])
def test_ranges_of_positions_are_powers_of_two(context, number):
    passage = Passage(np.zeros(context, np.int64), np.array([2]), np.array([0]))
    scores = TokenScores(*(values[:1] for values in vars(SCORES).values()))
    [tally] = tally_passage(passage, scores).tallies
    assert tally.by_position == [[number, 1, 1.0]]
    [entry] = token_figures([tally], seed=0)["loss_by_position"]
    assert entry["from"] <= context <= entry["to"]


def test_a_sum_of_parts_does_not_depend_on_how_they_are_cut_or_ordered():
    random = np.random.default_rng(0)
    parts = [
        Tally(
            *(random.normal() * 10.0 ** random.integers(-6, 6), 3, 1, 2),
            by_position=[[int(n), 1, random.normal()] for n in random.choice(6, 3, replace=False)],
            by_confidence=[[int(n), 1, 1.0, random.random()] for n in random.choice(10, 2, replace=False)],
        )
        for _ in range(40)
    ]
    whole = add_up(parts)
    assert add_up(parts[::-1]) == whole
    assert whole.tokens == 120
    assert sum(row[1] for row in whole.by_position) == 120
    assert whole.nll == math.fsum(part.nll for part in parts)
    empty = add_up([])
    assert (empty.nll, empty.tokens, empty.by_position) == (0.0, 0, [])


def test_figures_by_hand():
    a = Tally(10.0, 4, 2, 3, by_position=[[0, 1, 4.0], [1, 3, 6.0]], by_confidence=[[2, 2, 1.0, 0.5], [9, 2, 1.0, 1.9]])
    b = Tally(3.0, 2, 1, 1, by_position=[[0, 2, 3.0]], by_confidence=[[2, 2, 1.0, 0.4]])
    figures = token_figures([a, b], seed=0)
    first, second = figures["loss_by_position"]
    assert first == {"from": 1, "to": 1, "tokens": 3, "nll": 7 / 3, "nll_interval": [1.5, 4.0]}
    assert second == {"from": 2, "to": 2, "tokens": 3, "nll": 2.0, "nll_interval": None}  # one document's alone
    low, high = figures["calibration"]
    assert (low["from"], low["to"], low["tokens"], low["accuracy"]) == (0.2, 0.3, 4, 0.5)
    assert low["confidence"] == pytest.approx(0.225)
    assert (high["from"], high["to"], high["accuracy"]) == (0.9, 1.0, 0.5)
    assert figures["expected_calibration_error"] == pytest.approx((abs(2 - 0.9) + abs(1 - 1.9)) / 6)
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures


def test_no_tokens_are_no_figures():
    figures = token_figures([add_up([])], seed=0)
    assert figures == {"expected_calibration_error": None, "calibration": [], "loss_by_position": []}


def test_hardest_tokens_come_with_their_text(tokenizer, monkeypatch):
    monkeypatch.setattr(document_sums, "HARDEST", 3)
    monkeypatch.setattr(document_sums, "TOKENS_BEFORE", 2)
    ids = tokenizer("the cat sat on it", add_special_tokens=False)["input_ids"]
    passage = Passage(np.array([0, *ids[:-1]]), np.array(ids), np.zeros(len(ids), np.int64))
    rows = [[9.0, 3, ids[0], 0.25], [1.0, 0, ids[1], 0.5]]
    other = PassageScore([], [[9.0, 0, ids[2], 0.125], [8.0, 1, ids[0], 0.5]])
    documents = [Document("one", "test", "")]
    found = hardest_tokens([passage, passage], [PassageScore([], rows), other], documents, tokenizer)
    assert [(token["nll"], token["expected_probability"]) for token in found] == [(9.0, 0.25), (9.0, 0.125), (8.0, 0.5)]
    text = tokenizer.decode(ids)
    first = found[0]
    assert first["document"] == "one"
    assert first["token"] == tokenizer.decode(ids[3:4])
    assert first["before"] == tokenizer.decode(ids[1:3])
    assert first["before"] + first["token"] + first["after"] in text
    assert first["expected"] == tokenizer.decode(ids[:1])


@pytest.mark.parametrize("convention", ["rolling", "strided"])
def test_a_pass_counts_what_one_token_at_a_time_does(convention, tiny_gpt2, tokenizer):
    model = tiny_gpt2(2, initializer_range=0.5).eval()
    texts = ["The cat sat on the mat, and the dog sat on the cat. " * 4, "Call me Ishmael.", "x"]
    documents = [Document(str(n), "test", text) for n, text in enumerate(texts)]
    config = EvaluationConfig(convention=convention, stride=16 if convention == "strided" else None)
    figures, scores = measure_tokens(Accelerator(cpu=True), model, tokenizer, documents, config, context=32, seed=0)
    assert sum(entry["tokens"] for entry in figures["loss_by_position"]) == figures["tokens"]
    assert sum(entry["tokens"] for entry in figures["calibration"]) == figures["tokens"]
    by_position = sum(entry["tokens"] * entry["nll"] for entry in figures["loss_by_position"])
    assert by_position == pytest.approx(figures["nll_sum"], rel=1e-9)
    right = sum(entry["tokens"] * entry["accuracy"] for entry in figures["calibration"])
    assert right == pytest.approx(figures["top_1_accuracy"] * figures["tokens"])
    assert max(entry["to"] for entry in figures["loss_by_position"]) == 32
    hits, everything = 0, []
    if convention == "rolling":  # the short documents, each in one window
        for score, text in list(zip(scores, texts, strict=True))[1:]:
            ids = torch.tensor([[0, *tokenizer(text, add_special_tokens=False)["input_ids"]]])
            with torch.no_grad():
                logits = model(ids).logits[0, :-1].log_softmax(-1)
            everything += [-float(logits[i, token]) for i, token in enumerate(ids[0, 1:])]
            hits = int((logits.argmax(-1) == ids[0, 1:]).sum())
            assert score.top_1 == hits
            assert score.top_5 == int((logits.topk(5).indices == ids[0, 1:, None]).any(-1).sum())
        assert figures["hardest_tokens"][0]["nll"] >= max(everything) - 1e-5
    nlls = [token["nll"] for token in figures["hardest_tokens"]]
    assert nlls == sorted(nlls, reverse=True)
    assert len(nlls) == document_sums.HARDEST
    assert json.dumps(figures, allow_nan=False)
