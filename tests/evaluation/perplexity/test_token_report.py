"""Loss by position, calibration and hardest tokens, by hand."""

import json

import numpy as np
import pytest

from textgen.data.document import Document
from textgen.evaluation.perplexity import token_report
from textgen.evaluation.perplexity.document_sums import TokenSums, WindowScore, add_up
from textgen.evaluation.perplexity.token_report import hardest_first, hardest_rows, hardest_tokens, token_metrics
from textgen.evaluation.perplexity.token_windows import TokenWindow


def test_metrics_by_hand():
    a = TokenSums(
        *(10.0, 4, 2, 3),
        by_position=[[0, 1, 4.0], [1, 3, 6.0]],
        by_confidence=[[2, 2, 1.0, 0.5], [9, 2, 1.0, 1.9]],
    )
    b = TokenSums(3.0, 2, 1, 1, by_position=[[0, 2, 3.0]], by_confidence=[[2, 2, 1.0, 0.4]])
    figures = token_metrics([a, b], seed=0)
    first, second = figures["loss_by_position"]
    assert first == {"from": 1, "to": 1, "tokens": 3, "nll": 7 / 3, "nll_interval": [1.5, 4.0]}
    assert second == {"from": 2, "to": 2, "tokens": 3, "nll": 2.0, "nll_interval": None}  # from one document only
    low, high = figures["calibration"]
    assert (low["from"], low["to"], low["tokens"], low["accuracy"]) == (0.2, 0.3, 4, 0.5)
    assert low["confidence"] == pytest.approx(0.225)
    assert (high["from"], high["to"], high["accuracy"]) == (0.9, 1.0, 0.5)
    assert figures["expected_calibration_error"] == pytest.approx((abs(2 - 0.9) + abs(1 - 1.9)) / 6)
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures


@pytest.mark.parametrize(("number", "first", "last"), [(0, 1, 1), (1, 2, 2), (2, 3, 4), (3, 5, 8), (11, 1025, 2048)])
def test_ranges_of_positions_are_named_by_their_ends(number, first, last):
    sums = TokenSums(1.0, 1, 0, 0, by_position=[[number, 1, 1.0]], by_confidence=[[0, 1, 0.0, 0.05]])
    [entry] = token_metrics([sums], seed=0)["loss_by_position"]
    assert (entry["from"], entry["to"]) == (first, last)


def test_no_tokens_give_no_metrics():
    figures = token_metrics([add_up([])], seed=0)
    assert figures == {"expected_calibration_error": None, "calibration": [], "loss_by_position": []}


def test_hardest_tokens_come_with_their_text(tokenizer, monkeypatch):
    monkeypatch.setattr(token_report, "TOKENS_BEFORE", 2)
    ids = tokenizer("the cat sat on it", add_special_tokens=False)["input_ids"]
    window = TokenWindow(np.array([0, *ids[:-1]]), np.array(ids), np.zeros(len(ids), np.int64))
    rows = [(9.0, 0, 3, ids[0], 0.25), (9.0, 1, 0, ids[2], 0.125), (8.0, 1, 1, ids[0], 0.5)]
    found = hardest_tokens([window, window], rows, [Document("one", "test", "")], tokenizer)
    assert [(token["nll"], token["expected_probability"]) for token in found] == [(9.0, 0.25), (9.0, 0.125), (8.0, 0.5)]
    text = tokenizer.decode(ids)
    first = found[0]
    assert first["document"] == "one"
    assert first["token"] == tokenizer.decode(ids[3:4])
    assert first["before"] == tokenizer.decode(ids[1:3])
    assert first["before"] + first["token"] + first["after"] in text
    assert first["expected"] == tokenizer.decode(ids[:1])


def test_the_hardest_tokens_are_those_with_the_highest_nll(monkeypatch):
    monkeypatch.setattr(token_report, "HARDEST", 3)
    scores = {
        5: WindowScore([], [[9.0, 3, 7, 0.25], [1.0, 0, 8, 0.5]]),
        2: WindowScore([], [[9.0, 0, 9, 0.125], [8.0, 1, 7, 0.5]]),
    }
    expected = [(9.0, 2, 0, 9, 0.125), (9.0, 5, 3, 7, 0.25), (8.0, 2, 1, 7, 0.5)]  # ties in the order of the text
    assert hardest_rows(scores) == expected
    assert sorted([expected[1], expected[2], expected[0]], key=hardest_first) == expected
