"""Metrics of texts against hand-computed values, an independent BLEU, and the edge cases of empty and short texts."""

import json
import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
from numpy.random import default_rng

from textgen.evaluation.quality.ngrams import distinct_n, diversity, rep_n, seq_rep_n, zipf_coefficient
from textgen.evaluation.quality.self_bleu import self_bleu, self_bleu_scores
from textgen.evaluation.quality.text_metrics import TEXT_METRICS, measure, text_estimates

NAMES = [
    *("diversity", "diversity_simctg", "rep_2", "rep_3", "rep_4", "seq_rep_4"),
    *("distinct_1", "distinct_2", "distinct_3", "self_bleu_4", "zipf", "length"),
]
UNREPEATED = {"diversity": 1.0, "diversity_simctg": 1.0}
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
        ([], UNREPEATED),
        ([""], UNREPEATED | {"length": 7.0}),
        (["word"], UNREPEATED | {"distinct_1": 1.0, "length": 7.0}),
        (["a b"], UNREPEATED | {"distinct_1": 1.0, "distinct_2": 1.0, "length": 7.0}),
        (["", " \n", ""], UNREPEATED | {"length": 7.0}),
    ],
)
def test_measure_of_next_to_nothing(texts, expected):
    row = measure(texts, [7] * len(texts), seed=0)
    expected = dict.fromkeys(NAMES, 0.0) | expected
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
    assert row["diversity_simctg"] == diversity(texts, simctg_compat=True)
    assert [row[f"distinct_{n}"] for n in (1, 2, 3)] == [distinct_n(texts, n) for n in (1, 2, 3)]
    assert row["zipf"] == zipf_coefficient(texts)
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
        if name not in ("length", "zipf"):
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


def test_what_depends_on_size_is_taken_over_one_text_a_prompt_and_averaged():
    texts, prompts = random_texts(6, 12, 5, seed=2), ["x", "y", "z", "x", "z", "y"]
    first, second = texts[:3], [texts[3], texts[5], texts[4]]
    row = measure(texts, [1] * 6, seed=0, prompts=prompts)
    assert row["distinct_2"] == pytest.approx((distinct_n(first, 2) + distinct_n(second, 2)) / 2)
    assert row["self_bleu_4"] == pytest.approx((self_bleu(first) + self_bleu(second)) / 2)
    assert row["zipf"] == pytest.approx((zipf_coefficient(first) + zipf_coefficient(second)) / 2)
    assert row["rep_2"] == rep_n(texts, 2)


@pytest.mark.parametrize(("name", "formula"), [("distinct_2", lambda t: distinct_n(t, 2)), ("zipf", zipf_coefficient)])
def test_the_jackknife_leaves_out_whole_prompts(name, formula):
    texts, prompts = random_texts(6, 12, 5, seed=2), ["x", "y", "z", "x", "y", "z"]
    rounds = [dict(zip("xyz", part, strict=True)) for part in (texts[:3], texts[3:])]
    left_out = [sum(formula([r[p] for p in "xyz" if p != out]) for r in rounds) / 2 for out in "xyz"]
    estimate = text_estimates(texts, [1] * 6, seed=0, prompts=prompts)[name]
    assert estimate.left_out == pytest.approx(left_out)
    mean = sum(left_out) / 3
    error = math.sqrt(2 / 3 * sum((one - mean) ** 2 for one in left_out))
    assert estimate.error() == pytest.approx(error)
    reach = 4.302653 * error  # Student's t, 2 degrees of freedom
    low, high = max(estimate.limits[0], estimate.value - reach), min(estimate.limits[1], estimate.value + reach)
    assert estimate.interval() == pytest.approx((low, high), rel=1e-6)


def simctg_diversity(texts: list[str]) -> float:
    """SimCTG's definition, word for word: windows that end before the last word, percentages of 2 digits."""
    product = 1.0
    for n in (2, 3, 4):
        unique = total = 0
        for text in texts:
            words = text.strip().split()
            windows = [" ".join(words[end - n : end]) for end in range(n, len(words))]
            unique, total = unique + len(set(windows)), total + len(windows)
        product *= 1 - round((1 - unique / total) * 100, 2) / 100
    return product


def test_simctg_compat_is_their_code_s_diversity():
    # "a b a b a" without its last n-gram: ab ba ab, aba bab, abab; so 1 - 1/3 rounded to 33.33 %, and nothing else
    assert diversity([REPEATING], simctg_compat=True) == pytest.approx(1 - 0.3333, rel=1e-12)
    assert diversity([REPEATING]) == pytest.approx(2 / 4 * 2 / 3 * 2 / 2)
    texts = [text for words in (5, 17, 60) for text in random_texts(20, words, 9, seed=words)]
    assert diversity(texts, simctg_compat=True) == simctg_diversity(texts)
    assert diversity(texts, simctg_compat=True) != pytest.approx(diversity(texts), abs=1e-4)


def test_zipf_of_frequencies_that_obey_the_law_is_its_exponent():
    texts = [" ".join(f"w{rank}" for rank in range(1, 200) for _ in range(round(1e4 / rank**1.2)))]
    assert zipf_coefficient(texts) == pytest.approx(1.2, abs=0.02)
    # by hand: frequencies 4, 2 at ranks 1, 2 are a line of slope log(2/4) / log(2/1) = -1
    assert zipf_coefficient(["a a b", "b a a"]) == pytest.approx(1)
    assert zipf_coefficient(["a b c d"]) == 0


def test_zipf_agrees_with_a_least_squares_fit_and_leaves_out_the_rare():
    texts = random_texts(3, 30_000, 9000, seed=1)
    counts = sorted(Counter(word for text in texts for word in text.split()).values(), reverse=True)[:5000]
    assert len(counts) == 5000
    slope, _ = np.polyfit(np.log(np.arange(1, 5001)), np.log(counts), 1)
    assert zipf_coefficient(texts) == pytest.approx(-slope, rel=1e-9)


def test_more_texts_narrow_the_intervals():
    widths = []
    for count in (20, 80, 320):
        low, high = measure(random_texts(count, 25, 9, seed=count), [25] * count, seed=0)["rep_2_interval"]
        widths.append(high - low)
    assert all(0.3 < narrower / wider < 0.75 for wider, narrower in pairwise(widths))
