"""Estimates of text metrics: values are those of the formulas, intervals are over prompts, and texts may be empty."""

import json
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.random import default_rng

from textgen.evaluation.quality.ngrams import distinct_n, diversity, rep_n, seq_rep_values, zipf_coefficient
from textgen.evaluation.quality.self_bleu import self_bleu_scores
from textgen.evaluation.quality.text_metrics import TEXT_METRICS, estimate_columns, text_estimates

NAMES = [
    *("diversity", "diversity_simctg", "rep_2", "rep_3", "rep_4", "seq_rep_4"),
    *("distinct_1", "distinct_2", "distinct_3", "self_bleu_4", "zipf", "length"),
]
NO_REPETITION = {"diversity": 1.0, "diversity_simctg": 1.0}

texts_of_few_words = st.lists(st.lists(st.sampled_from(["a", "b", "c"]), max_size=9).map(" ".join), max_size=6)


def measure(texts: list[str], token_counts: list[int], seed: int, prompts: list[str] | None = None) -> dict[str, Any]:
    """The columns of every text metric."""
    return estimate_columns(text_estimates(texts, token_counts, seed, prompts=prompts))


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([], NO_REPETITION),
        ([""], NO_REPETITION | {"length": 7.0}),
        (["word"], NO_REPETITION | {"distinct_1": 1.0, "length": 7.0}),
        (["a b"], NO_REPETITION | {"distinct_1": 1.0, "distinct_2": 1.0, "length": 7.0}),
        (["", " \n", ""], NO_REPETITION | {"length": 7.0}),
    ],
)
def test_no_texts_empty_texts_and_short_texts_have_values(texts, expected):
    row = measure(texts, [7] * len(texts), seed=0)
    expected = dict.fromkeys(NAMES, 0.0) | expected
    assert {name: row[name] for name in NAMES} == expected
    for name in NAMES:
        alike = len(texts) > 1  # a single text says nothing of how texts vary
        assert row[f"{name}_interval"] == ([expected[name]] * 2 if alike else None)


def test_values_are_those_of_the_formulas():
    texts = ["a b a b a", "c d e f g h", "a b c d e f"]
    row = measure(texts, [5, 6, 10], seed=0)
    assert list(row) == [key for name in NAMES for key in (name, f"{name}_interval")]
    assert row["diversity"] == diversity(texts)
    assert [row["rep_2"], row["rep_3"], row["rep_4"]] == [rep_n(texts, n) for n in (2, 3, 4)]
    assert row["seq_rep_4"] == mean(seq_rep_values(texts, 4))
    assert row["diversity_simctg"] == diversity(texts, simctg_compat=True)
    assert [row[f"distinct_{n}"] for n in (1, 2, 3)] == [distinct_n(texts, n) for n in (1, 2, 3)]
    assert row["zipf"] == zipf_coefficient(texts)
    assert row["self_bleu_4"] == mean(self_bleu_scores(texts, 4))
    assert row["length"] == 7
    assert list(TEXT_METRICS) == NAMES


@settings(max_examples=30, deadline=None)
@given(texts_of_few_words)
def test_columns_are_valid_json_with_ordered_intervals(texts):
    row = measure(texts, [len(text) for text in texts], seed=1)
    assert json.loads(json.dumps(row, allow_nan=False)) == row
    for name in NAMES:
        if len(texts) < 2:
            assert row[f"{name}_interval"] is None
            continue
        low, high = row[f"{name}_interval"]
        assert low <= high
        if name not in ("length", "zipf"):
            assert low >= 0
            assert high <= 1 + 1e-12


def test_only_the_intervals_depend_on_the_seed(random_texts):
    texts = random_texts(12, 30, 6, seed=0)
    lengths = list(range(12))
    assert measure(texts, lengths, seed=3) == measure(texts, lengths, seed=3)
    other, row = measure(texts, lengths, seed=4), measure(texts, lengths, seed=3)
    assert all(other[name] == row[name] for name in NAMES)
    assert other["diversity_interval"] != row["diversity_interval"]


def test_intervals_contain_their_values(random_texts):
    row = measure(random_texts(30, 40, 4, seed=5), list(default_rng(0).integers(20, 60, size=30)), seed=0)
    for name in NAMES:
        low, high = row[f"{name}_interval"]
        assert low < row[name] < high, name


def test_the_interval_of_distinct_n_is_the_jackknife_by_definition(random_texts):
    texts = random_texts(10, 12, 5, seed=2)
    value = distinct_n(texts, 2)
    left_out = [distinct_n(texts[:i] + texts[i + 1 :], 2) for i in range(10)]
    error = math.sqrt(9 / 10 * sum((one - mean(left_out)) ** 2 for one in left_out))
    assert measure(texts, [1] * 10, seed=0)["distinct_2_interval"] == pytest.approx(
        [value - 2.262157 * error, value + 2.262157 * error],
        rel=1e-6,  # Student's t, 9 degrees of freedom
    )


def test_continuations_of_one_prompt_are_resampled_together(random_texts):
    texts = random_texts(8, 20, 5, seed=1)
    one_prompt = measure(texts, [20] * 7 + [90], seed=0, prompts=["p"] * 8)
    assert {one_prompt[f"{name}_interval"] for name in NAMES} == {None}
    separate = measure(texts, [20] * 7 + [90], seed=0)
    assert separate == measure(texts, [20] * 7 + [90], seed=0, prompts=list("abcdefgh"))
    assert separate["length_interval"][0] < separate["length_interval"][1]


def test_metrics_that_depend_on_size_are_averaged_over_sets_of_one_text_per_prompt(random_texts):
    texts, prompts = random_texts(6, 12, 5, seed=2), ["x", "y", "z", "x", "z", "y"]
    first, second = texts[:3], [texts[3], texts[5], texts[4]]
    row = measure(texts, [1] * 6, seed=0, prompts=prompts)
    assert row["distinct_2"] == pytest.approx((distinct_n(first, 2) + distinct_n(second, 2)) / 2)
    assert row["self_bleu_4"] == pytest.approx(mean([*self_bleu_scores(first, 4), *self_bleu_scores(second, 4)]))
    assert row["zipf"] == pytest.approx((zipf_coefficient(first) + zipf_coefficient(second)) / 2)
    assert row["rep_2"] == rep_n(texts, 2)


@pytest.mark.parametrize(("name", "formula"), [("distinct_2", lambda t: distinct_n(t, 2)), ("zipf", zipf_coefficient)])
def test_the_jackknife_leaves_out_whole_prompts(random_texts, name, formula):
    texts, prompts = random_texts(6, 12, 5, seed=2), ["x", "y", "z", "x", "y", "z"]
    sets = [dict(zip("xyz", part, strict=True)) for part in (texts[:3], texts[3:])]
    left_out = [sum(formula([one[p] for p in "xyz" if p != out]) for one in sets) / 2 for out in "xyz"]
    estimate = text_estimates(texts, [1] * 6, seed=0, prompts=prompts)[name]
    assert estimate.left_out == pytest.approx(left_out)
    error = math.sqrt(2 / 3 * sum((one - mean(left_out)) ** 2 for one in left_out))
    assert estimate.error() == pytest.approx(error)
    reach = 4.302653 * error  # Student's t, 2 degrees of freedom
    low, high = max(estimate.limits[0], estimate.value - reach), min(estimate.limits[1], estimate.value + reach)
    assert estimate.interval() == pytest.approx((low, high), rel=1e-6)


def test_more_texts_narrow_the_intervals(random_texts):
    widths = []
    for count in (20, 80, 320):
        low, high = measure(random_texts(count, 25, 9, seed=count), [25] * count, seed=0)["rep_2_interval"]
        widths.append(high - low)
    assert all(0.3 < narrower / wider < 0.75 for wider, narrower in pairwise(widths))
