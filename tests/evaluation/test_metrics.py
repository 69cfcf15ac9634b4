"""Metrics of texts against hand-computed values, an independent BLEU, and the edge cases of empty and short texts."""

import json
import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
from numpy.random import default_rng

from textgen.evaluation.metrics import (
    TEXT_METRICS,
    distinct_n,
    diversity,
    measure,
    rep_n,
    self_bleu,
    self_bleu_scores,
    seq_rep_n,
)

NAMES = ["diversity", "rep_2", "rep_3", "rep_4", "seq_rep_4", "distinct_2", "self_bleu_4", "length"]
REPEATING = "a b a b a"  # bigrams ab ba ab ba; trigrams aba bab aba; 4-grams abab baba
FRESH = "c d e f g h"  # 5 bigrams, 4 trigrams, 3 four-grams, all different

texts_of_few_words = st.lists(st.lists(st.sampled_from(["a", "b", "c"]), max_size=9).map(" ".join), max_size=6)


def random_texts(count: int, words: int, vocabulary: int, seed: int) -> list[str]:
    random = default_rng(seed)
    return [" ".join(f"w{word}" for word in random.integers(vocabulary, size=words)) for _ in range(count)]


def test_rep_n_sums_over_texts_before_dividing():
    assert rep_n([REPEATING], 2) == pytest.approx(1 - 2 / 4)
    assert rep_n([REPEATING, FRESH], 2) == pytest.approx(1 - (2 + 5) / (4 + 5))
    assert rep_n([REPEATING, FRESH], 3) == pytest.approx(1 - (2 + 4) / (3 + 4))
    assert rep_n([REPEATING, FRESH], 4) == 0


def test_rep_n_does_not_count_repetition_between_texts():
    assert rep_n([FRESH, FRESH], 2) == 0


def test_diversity_is_the_product():
    assert diversity([REPEATING, FRESH]) == pytest.approx((7 / 9) * (6 / 7) * 1)


def test_seq_rep_is_the_mean_over_texts_with_short_ones_as_zero():
    looping = "x x x x x x"  # three 4-grams, one of them different
    assert seq_rep_n([looping, FRESH, "too short"], 4) == pytest.approx((1 - 1 / 3) / 3)


def test_distinct_n_pools_the_texts():
    assert distinct_n([FRESH, FRESH], 2) == pytest.approx(5 / 10)
    assert distinct_n([REPEATING, FRESH], 2) == pytest.approx(7 / 9)


def test_words_are_what_any_white_space_separates():
    assert distinct_n(["a\tb\n\na  b"], 2) == pytest.approx(2 / 3)


def nltk_self_bleu(texts: list[str], n: int) -> list[float]:
    words = [text.split() for text in texts]
    smoothing = SmoothingFunction().method1
    weights = (1 / n,) * n
    return [
        sentence_bleu(words[:i] + words[i + 1 :], words[i], weights=weights, smoothing_function=smoothing)
        for i in range(len(words))
    ]


@given(texts_of_few_words.filter(lambda texts: len(texts) >= 2), st.integers(1, 5))
def test_self_bleu_agrees_with_nltk(texts, n):
    assert self_bleu_scores(texts, n) == pytest.approx(nltk_self_bleu(texts, n), rel=1e-12)


def test_self_bleu_agrees_with_nltk_on_longer_texts_of_different_length():
    texts = [text for words in (5, 17, 18, 40) for text in random_texts(4, words, 12, seed=words)]
    expected = nltk_self_bleu(texts, 4)
    assert self_bleu(texts) == pytest.approx(math.fsum(expected) / len(expected), rel=1e-12)


def test_self_bleu_of_copies_is_one_and_of_strangers_zero():
    assert self_bleu([FRESH] * 3) == pytest.approx(1)
    assert self_bleu(["a b c d", "e f g h"]) == 0


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([], dict.fromkeys(NAMES, 0.0) | {"diversity": 1.0}),
        ([""], dict.fromkeys(NAMES, 0.0) | {"diversity": 1.0, "length": 7.0}),
        (["word"], dict.fromkeys(NAMES, 0.0) | {"diversity": 1.0, "length": 7.0}),
        (["a b"], dict.fromkeys(NAMES, 0.0) | {"diversity": 1.0, "distinct_2": 1.0, "length": 7.0}),
        (["", " \n", ""], dict.fromkeys(NAMES, 0.0) | {"diversity": 1.0, "length": 7.0}),
    ],
)
def test_measure_of_next_to_nothing(texts, expected):
    row = measure(texts, [7] * len(texts), seed=0)
    assert {name: row[name] for name in NAMES} == expected
    for name in NAMES:
        assert row[f"{name}_interval"] == [expected[name]] * 2


def test_measure_reports_what_the_functions_say():
    texts = [REPEATING, FRESH, "a b c d e f"]
    row = measure(texts, [5, 6, 10], seed=0)
    assert list(row) == [key for name in NAMES for key in (name, f"{name}_interval")]
    assert row["diversity"] == diversity(texts)
    assert [row["rep_2"], row["rep_3"], row["rep_4"]] == [rep_n(texts, n) for n in (2, 3, 4)]
    assert row["seq_rep_4"] == seq_rep_n(texts)
    assert row["distinct_2"] == distinct_n(texts, 2)
    assert row["self_bleu_4"] == self_bleu(texts)
    assert row["length"] == 7
    assert list(TEXT_METRICS) == NAMES


@settings(max_examples=30, deadline=None)
@given(texts_of_few_words)
def test_measure_is_always_valid_json_with_fractions_in_ordered_intervals(texts):
    row = measure(texts, [len(text) for text in texts], seed=1)
    assert json.loads(json.dumps(row, allow_nan=False)) == row
    for name in NAMES:
        low, high = row[f"{name}_interval"]
        assert low <= high
        if name != "length":
            assert low >= 0
            assert high <= 1 + 1e-12


def test_measure_depends_on_the_seed_only_through_the_intervals():
    texts = random_texts(12, 30, 6, seed=0)
    lengths = list(range(12))
    assert measure(texts, lengths, seed=3) == measure(texts, lengths, seed=3)
    other, row = measure(texts, lengths, seed=4), measure(texts, lengths, seed=3)
    assert all(other[name] == row[name] for name in NAMES)
    assert other["diversity_interval"] != row["diversity_interval"]


def test_intervals_contain_their_values():
    row = measure(random_texts(30, 40, 4, seed=5), list(default_rng(0).integers(20, 60, size=30)), seed=0)
    for name in NAMES:
        low, high = row[f"{name}_interval"]
        assert low < row[name] < high, name


def test_distinct_interval_is_the_jackknife_by_definition():
    texts = random_texts(10, 12, 5, seed=2)
    value = distinct_n(texts, 2)
    left_out = [distinct_n(texts[:i] + texts[i + 1 :], 2) for i in range(10)]
    mean = sum(left_out) / 10
    error = math.sqrt(9 / 10 * sum((one - mean) ** 2 for one in left_out))
    assert measure(texts, [1] * 10, seed=0)["distinct_2_interval"] == pytest.approx(
        [value - 2.262157 * error, value + 2.262157 * error],
        rel=1e-6,  # Student's t, 9 degrees of freedom
    )


def test_continuations_of_one_prompt_are_one_item():
    texts = random_texts(8, 20, 5, seed=1)
    one_prompt = measure(texts, [20] * 7 + [90], seed=0, prompts=["p"] * 8)
    for name in NAMES:
        low, high = one_prompt[f"{name}_interval"]
        assert low == pytest.approx(high), name
    separate = measure(texts, [20] * 7 + [90], seed=0)
    assert separate == measure(texts, [20] * 7 + [90], seed=0, prompts=list("abcdefgh"))
    assert separate["length_interval"][0] < separate["length_interval"][1]


def test_distinct_jackknife_leaves_out_whole_prompts():
    texts, prompts = random_texts(6, 12, 5, seed=2), ["x", "y", "z", "x", "y", "z"]
    left_out = [distinct_n([t for t, p in zip(texts, prompts, strict=True) if p != out], 2) for out in "xyz"]
    mean = sum(left_out) / 3
    error = math.sqrt(2 / 3 * sum((one - mean) ** 2 for one in left_out))
    low, high = measure(texts, [1] * 6, seed=0, prompts=prompts)["distinct_2_interval"]
    assert (high - low) / 2 == pytest.approx(4.302653 * error, rel=1e-6)  # Student's t, 2 degrees of freedom


def test_more_texts_narrow_the_intervals():
    widths = []
    for count in (20, 80, 320):
        low, high = measure(random_texts(count, 25, 9, seed=count), [25] * count, seed=0)["rep_2_interval"]
        widths.append(high - low)
    assert all(0.3 < narrower / wider < 0.75 for wider, narrower in pairwise(widths))
