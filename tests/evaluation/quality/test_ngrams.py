"""Repetition and diversity against hand-computed values, nltk's n-grams, SimCTG's code and numpy's least squares."""

from collections import Counter
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nltk.util import ngrams

from textgen.evaluation.quality.ngrams import distinct_n, diversity, rep_n, seq_rep_values, zipf_coefficient

REPEATING = "a b a b a"  # bigrams ab ba ab ba; trigrams aba bab aba; 4-grams abab baba
FRESH = "c d e f g h"  # 5 bigrams, 4 trigrams, 3 four-grams, all different

texts_of_few_words = st.lists(st.lists(st.sampled_from(["a", "b", "c"]), max_size=9).map(" ".join), max_size=6)


def test_rep_n_sums_over_texts_before_dividing():
    assert rep_n([REPEATING], 2) == pytest.approx(1 - 2 / 4)
    assert rep_n([REPEATING, FRESH], 2) == pytest.approx(1 - (2 + 5) / (4 + 5))
    assert rep_n([REPEATING, FRESH], 3) == pytest.approx(1 - (2 + 4) / (3 + 4))
    assert rep_n([REPEATING, FRESH], 4) == 0


def test_rep_n_does_not_count_repetition_between_texts():
    assert rep_n([FRESH, FRESH], 2) == 0


def test_diversity_is_the_product():
    assert diversity([REPEATING, FRESH]) == pytest.approx((7 / 9) * (6 / 7) * 1)


def test_seq_rep_is_of_each_text_and_zero_for_short_ones():
    looping = "x x x x x x"  # three 4-grams, one of them different
    assert seq_rep_values([looping, FRESH, "too short"], 4) == pytest.approx([1 - 1 / 3, 0, 0])


def test_distinct_n_pools_the_texts():
    assert distinct_n([FRESH, FRESH], 2) == pytest.approx(5 / 10)
    assert distinct_n([REPEATING, FRESH], 2) == pytest.approx(7 / 9)


def test_words_are_separated_by_any_white_space():
    assert distinct_n(["a\tb\n\na  b"], 2) == pytest.approx(2 / 3)


@given(texts_of_few_words, st.integers(1, 4))
def test_all_agree_with_their_definitions_over_nltk_s_n_grams(texts, n):
    each = [list(ngrams(text.split(), n)) for text in texts]
    total = sum(map(len, each))
    assert rep_n(texts, n) == pytest.approx(1 - sum(len(set(one)) for one in each) / total if total else 0)
    assert distinct_n(texts, n) == pytest.approx(len(set(chain(*each))) / total if total else 0)
    assert seq_rep_values(texts, n) == pytest.approx([1 - len(set(one)) / len(one) if one else 0 for one in each])


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


def test_simctg_compat_is_the_diversity_of_their_code(random_texts):
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


def test_zipf_agrees_with_numpy_s_least_squares_over_the_5000_most_frequent_words(random_texts):
    texts = random_texts(3, 30_000, 9000, seed=1)
    counts = sorted(Counter(word for text in texts for word in text.split()).values(), reverse=True)[:5000]
    assert len(counts) == 5000
    slope, _ = np.polyfit(np.log(np.arange(1, 5001)), np.log(counts), 1)
    assert zipf_coefficient(texts) == pytest.approx(-slope, rel=1e-9)
