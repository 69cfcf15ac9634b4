"""Distinct-n and Zipf of sets that exchanged texts: the plain formulas on each pair of sets."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textgen.evaluation.quality import exchanged_sets, ngrams
from textgen.evaluation.quality.exchanged_sets import exchanged_distinct, exchanged_zipf, over_samples
from textgen.evaluation.quality.ngrams import distinct_n, zipf_coefficient
from textgen.evaluation.uncertainty.label_swap import arrangements

text = st.lists(st.sampled_from("abcdefg"), max_size=8).map(" ".join)
pairs_of_sets = st.integers(1, 5).flatmap(lambda n: st.tuples(*[st.lists(text, min_size=n, max_size=n)] * 2))


def by_formula(formula: Callable, a: Sequence[str], b: Sequence[str], swapped: np.ndarray) -> tuple:
    """The values of both sides, one arrangement after another."""
    sides: tuple[list[float], list[float]] = ([], [])
    for row in swapped:
        exchanged = [(y, x) if swap else (x, y) for x, y, swap in zip(a, b, row, strict=True)]
        for side, texts in zip(sides, zip(*exchanged, strict=True), strict=True):
            side.append(formula(list(texts)))
    return sides


@settings(max_examples=60, deadline=None)
@given(pairs_of_sets, st.integers(1, 3))
def test_distinct_n_in_every_arrangement(sets, n):
    swapped = arrangements(len(sets[0]), seed=0)
    found = exchanged_distinct(n)(*sets, swapped)
    for side, expected in zip(found, by_formula(lambda texts: distinct_n(texts, n), *sets, swapped), strict=True):
        assert side == pytest.approx(expected, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(pairs_of_sets)
def test_zipf_in_every_arrangement(sets):
    swapped = arrangements(len(sets[0]), seed=0)
    found = exchanged_zipf(*sets, swapped)
    for side, expected in zip(found, by_formula(zipf_coefficient, *sets, swapped), strict=True):
        assert side == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("statistic", [exchanged_zipf, exchanged_distinct(1), exchanged_distinct(2)])
def test_many_words_and_arrangements_in_small_pieces_are_the_same(random_texts, statistic, monkeypatch):
    texts = random_texts(40, 30, 200, seed=3)
    swapped = arrangements(20, seed=1)[:300]
    whole = statistic(texts[:20], texts[20:], swapped)
    monkeypatch.setattr(exchanged_sets, "_CELLS_AT_ONCE", 5_000)
    assert np.array_equal(whole, statistic(texts[:20], texts[20:], swapped))


def test_only_the_most_frequent_words_count_for_zipf(random_texts, monkeypatch):
    texts = random_texts(8, 40, 60, seed=5)
    monkeypatch.setattr(exchanged_sets, "ZIPF_RANKS", 10)
    monkeypatch.setattr(ngrams, "ZIPF_RANKS", 10)
    swapped = arrangements(4, seed=0)
    found = exchanged_zipf(texts[:4], texts[4:], swapped)
    assert found[0] == pytest.approx(by_formula(zipf_coefficient, texts[:4], texts[4:], swapped)[0], abs=1e-9)


def test_samples_are_compared_set_by_set(random_texts):
    x, y, u, v, p, q = random_texts(6, 12, 8, seed=2)
    swapped = arrangements(2, seed=0)
    found = over_samples(exchanged_distinct(2))([[x, u], [y, v]], [[p], [q]], swapped)
    first, second = (exchanged_distinct(2)(one, [p, q], swapped) for one in ([x, y], [u, v]))
    for side in range(2):
        assert found[side] == pytest.approx((first[side] + second[side]) / 2)
