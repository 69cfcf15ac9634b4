"""Perplexities from document scores: by hand, for extreme numbers, and paired."""

import json
import math
from dataclasses import replace

import pytest

from textgen.evaluation.perplexity.document_sums import DocumentScore
from textgen.evaluation.perplexity.summary import paired_difference, perplexities, perplexity_summary
from textgen.evaluation.perplexity.windows import WindowSettings
from textgen.evaluation.uncertainty.rates import rate_interval

ROLLING = WindowSettings("rolling", 32)
STRIDED = WindowSettings("strided", 32, 16)
SCORES = [
    DocumentScore("a", nll=100.0, tokens=50, words=40, bytes=200, top_1=10, top_5=20),
    DocumentScore("b", nll=50.0, tokens=30, words=20, bytes=100, top_1=9, top_5=15),
]


def test_summary_by_hand():
    summary = perplexity_summary(SCORES, STRIDED, seed=0)
    names = ["token_perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte"]
    assert set(summary) == {
        *("convention", "stride", "documents", "nll_sum", "tokens", "words", "bytes"),
        *(key for name in [*names, "top_1_accuracy", "top_5_accuracy"] for key in (name, f"{name}_interval")),
    }
    assert (summary["convention"], summary["stride"], summary["documents"]) == ("strided", 16, 2)
    assert [summary[key] for key in ("nll_sum", "tokens", "words", "bytes")] == [150.0, 80, 60, 300]
    expected = [math.exp(150 / 80), math.exp(150 / 60), math.exp(0.5), 0.5 / math.log(2)]
    assert [summary[name] for name in names] == pytest.approx(expected, rel=1e-12)
    assert summary["token_perplexity_interval"] == pytest.approx([math.exp(50 / 30), math.exp(2.0)], rel=1e-12)
    assert summary["bits_per_byte_interval"] == pytest.approx([0.5 / math.log(2)] * 2, rel=1e-12)
    assert (summary["top_1_accuracy"], summary["top_5_accuracy"]) == (19 / 80, 35 / 80)
    assert summary["top_1_accuracy_interval"] == list(rate_interval([10, 9], [50, 30]))
    assert summary["top_5_accuracy_interval"] == list(rate_interval([20, 15], [50, 30]))
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_metrics_without_intervals_are_those_of_the_summary():
    figures = perplexities(SCORES)
    summary = perplexity_summary(SCORES, ROLLING, seed=0)
    assert figures == {name: summary[name] for name in figures}
    assert len(figures) == 9


def test_one_document_has_no_interval_but_of_its_accuracy():
    summary = perplexity_summary(SCORES[:1], ROLLING, seed=0)
    assert summary["stride"] is None
    names = ("token_perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte")
    assert [summary[f"{name}_interval"] for name in names] == [None] * 4
    low, high = summary["top_1_accuracy_interval"]
    assert high - low > 0.5
    assert paired_difference(SCORES[:1], SCORES[:1], seed=0)["bits_per_byte_interval"] is None


def test_perplexity_beyond_the_largest_float_is_none_but_bits_per_byte_is_not():
    hopeless = [replace(SCORES[0], nll=40_000.0), replace(SCORES[1], nll=20.0)]
    summary = perplexity_summary(hopeless, ROLLING, seed=0)
    assert summary["word_perplexity"] == pytest.approx(math.exp(40_020 / 60))
    assert summary["word_perplexity_interval"][0] == pytest.approx(math.e)
    assert summary["word_perplexity_interval"][1] is None
    worse = perplexity_summary([replace(SCORES[0], nll=1e5)], ROLLING, seed=0)
    assert worse["word_perplexity"] is None
    assert worse["bits_per_byte"] == pytest.approx(500 / math.log(2))
    assert json.dumps([summary, worse], allow_nan=False)


def test_without_scored_tokens_there_is_no_perplexity():
    summary = perplexity_summary([DocumentScore("a", 0.0, tokens=0, words=1, bytes=1)], STRIDED, seed=0)
    assert summary["token_perplexity"] is None
    assert summary["token_perplexity_interval"] is None
    assert summary["top_1_accuracy"] is None
    assert summary["top_1_accuracy_interval"] is None
    assert json.dumps(summary, allow_nan=False)


def test_a_paired_difference_is_b_minus_a_and_narrower_than_the_separate_intervals():
    a = [DocumentScore(str(n), 100.0 + 30 * (n % 5), 50, 40, 200) for n in range(40)]
    b = [replace(score, nll=score.nll - 5 - n % 2) for n, score in enumerate(a)]
    difference = paired_difference(a, b, seed=0)
    low, high = difference["bits_per_byte_interval"]
    assert difference["bits_per_byte"] == pytest.approx(-5.5 / 200 / math.log(2))
    assert low < difference["bits_per_byte"] < high < 0
    separate = perplexity_summary(a, ROLLING, seed=0)["bits_per_byte_interval"]
    assert high - low < 0.1 * (separate[1] - separate[0])
    assert paired_difference(a, a, seed=0)["bits_per_byte_interval"] == [0.0, 0.0]


def test_a_paired_difference_of_different_documents_is_an_error():
    with pytest.raises(AssertionError, match="same documents"):
        paired_difference(SCORES, SCORES[::-1], seed=0)
