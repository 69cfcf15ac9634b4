"""The label-swap test: p values by brute force and by scipy, its interval as the inverted test, size and power."""

import itertools
import math

import numpy as np
import pytest
from numpy.random import default_rng
from scipy import stats

from textgen.evaluation.uncertainty.estimate import Estimate, estimate_of_mean, estimate_of_sums
from textgen.evaluation.uncertainty.label_swap import SETS, SUMS, Difference, arrangements, smallest_p
from textgen.evaluation.uncertainty.significance import difference


def mean_of(values: np.ndarray) -> Estimate:
    return estimate_of_mean(values, clusters=list(range(len(values))), seed=0)


def difference_of(d: np.ndarray) -> Difference:
    """The difference of two means whose paired differences are ``d``."""
    return difference(mean_of(np.zeros(len(d))), mean_of(d), seed=0)


def product_of_ratios(random: np.random.Generator, prompts: int, shift: float) -> Estimate:
    """A figure of all texts together, like diversity."""
    totals = random.integers(20, 40, size=(2, prompts)).astype(float)
    shares = np.clip(random.normal(0.6 + shift, 0.2, size=(2, prompts)), 0, 1)
    columns = [shares[0] * totals[0], totals[0], shares[1] * totals[1], totals[1]]
    return estimate_of_sums(
        lambda sums: sums[..., 0] / sums[..., 1] * sums[..., 2] / sums[..., 3],
        columns,
        clusters=list(range(prompts)),
        seed=0,
    )


@pytest.mark.parametrize("prompts", [1, 2, 7, 16])
def test_up_to_sixteen_prompts_every_arrangement_or_its_complement_is_there_once(prompts):
    found = arrangements(prompts, seed=3)
    assert found.shape == (2 ** (prompts - 1), prompts)
    assert not found[0].any()
    either = {tuple(row) for row in found} | {tuple(~row) for row in found}
    assert len(either) == 2**prompts


def test_beyond_that_arrangements_are_drawn_by_the_seed_and_the_number_of_prompts():
    found = arrangements(17, seed=3)
    assert found.shape == (SUMS.draws + 1, 17)
    assert arrangements(17, 3, SETS).shape == (SETS.draws + 1, 17)
    assert len(arrangements(12, 3, SETS)) == 2**11
    assert not found[0].any()
    assert found[1:].mean() == pytest.approx(0.5, abs=0.01)
    arrangements.cache_clear()
    assert np.array_equal(found, arrangements(17, seed=3))
    assert not np.array_equal(found, arrangements(17, seed=4))


def test_the_p_value_of_a_mean_is_that_of_scipys_permutation_test():
    random = default_rng(1)
    for prompts in (6, 9, 12):
        x, y = random.normal(size=prompts), random.normal(0.7, 1, size=prompts)
        expected = stats.permutation_test(
            (y, x), lambda a, b, axis: a.mean(axis) - b.mean(axis), permutation_type="samples", n_resamples=np.inf
        )
        assert difference(mean_of(x), mean_of(y), seed=0).p_value() == pytest.approx(expected.pvalue, abs=1e-12)


def test_the_p_value_of_a_pooled_figure_by_brute_force():
    random, prompts = default_rng(2), 7
    a, b = product_of_ratios(random, prompts, 0.0), product_of_ratios(random, prompts, 0.2)
    first, second = np.array(a.parts.parts), np.array(b.parts.parts)

    def value(parts: np.ndarray) -> float:
        sums = parts.sum(axis=0)
        return sums[0] / sums[1] * sums[2] / sums[3]

    observed, as_large = abs(value(second) - value(first)), 0
    for swapped in itertools.product([False, True], repeat=prompts):
        which = np.array(swapped)[:, None]
        found = value(np.where(which, first, second)) - value(np.where(which, second, first))
        as_large += abs(found) >= observed - 1e-12
    assert difference(a, b, seed=0).p_value() == as_large / 2**prompts


@pytest.mark.parametrize("prompts", [6, 8, 13, 40])
def test_the_interval_has_the_shifts_that_are_not_rejected(prompts):
    d = default_rng(prompts).exponential(size=prompts) - 0.3
    low, high = difference_of(d).interval()
    assert low < d.mean() < high
    for end, outward in ((low, -1e-6), (high, 1e-6)):
        assert difference_of(d - (end - outward)).p_value() >= 0.05
        assert difference_of(d - (end + outward)).p_value() < 0.05


def test_the_interval_excludes_zero_exactly_where_p_is_below_five_percent():
    random, seen = default_rng(3), set()
    for trial in range(120):
        prompts = (6, 9, 12, 20)[trial % 4]
        if trial % 2:
            found = difference_of(random.normal(random.uniform(0, 1.5), 1, size=prompts))
        else:
            shift = random.uniform(0, 0.3)
            found = difference(
                product_of_ratios(random, prompts, 0.0), product_of_ratios(random, prompts, shift), seed=trial
            )
        low, high = found.interval()
        assert low <= found.value <= high
        assert (low > 0 or high < 0) == (found.p_value() < 0.05)
        seen.add((trial % 2, found.p_value() < 0.05))
    assert len(seen) == 4


def test_few_prompts_prove_nothing_and_one_says_nothing():
    for prompts in (2, 5):
        found = difference_of(np.ones(prompts))
        assert found.p_value() == 2.0 ** (1 - prompts) == smallest_p(prompts)
        assert found.interval() == (-math.inf, math.inf)
    assert difference_of(np.ones(6)).interval() == pytest.approx((1, 1))
    one = difference_of(np.ones(1))
    assert one.p_value() is None
    assert one.interval() == (-math.inf, math.inf)
    assert one.error() == 0


def test_equal_texts_are_not_distinguished_and_ties_count_as_as_large():
    assert difference_of(np.zeros(9)).p_value() == 1
    assert difference_of(np.zeros(9)).interval() == (0, 0)
    # 0.1 + 0.2 + 0.3 in other orders has other last bits
    d = np.array([0.1, 0.2, 0.3, 0.1, 0.2, 0.3, 0.1, 0.2, 0.3])
    assert difference_of(d).p_value() == difference_of(np.rint(d * 10)).p_value() == 2.0**-8


def test_drawn_arrangements_include_the_observed_one():
    assert difference_of(np.ones(60)).p_value() == 1 / (SUMS.draws + 1) == smallest_p(60)
    assert smallest_p(16) == 2.0**-15


def test_the_error_of_a_mean_is_the_textbook_one():
    for prompts, tolerance in ((12, 1e-9), (50, 0.03)):
        d = default_rng(prompts).normal(2, 3, size=prompts)
        assert difference_of(d).error() == pytest.approx(d.std(ddof=1) / math.sqrt(prompts), rel=tolerance)
    assert difference_of(np.full(9, 0.1)).error() == 0


def test_many_prompts_give_the_p_value_and_interval_of_the_paired_t_test():
    d = default_rng(7).normal(0.35, 1, size=60)
    found, expected = difference_of(d), stats.ttest_1samp(d, 0)
    assert found.p_value() == pytest.approx(expected.pvalue, rel=0.25)
    assert found.interval() == pytest.approx(tuple(expected.confidence_interval()), abs=0.03)


def test_exchangeable_texts_are_distinguished_in_at_most_five_percent_of_cases():
    random, trials = default_rng(8), 600
    for prompts in (7, 20):
        positives = 0
        for trial in range(trials):
            a, b = (product_of_ratios(random, prompts, 0.0) for _ in range(2))
            positives += difference(a, b, seed=trial).p_value() < 0.05
        assert 0.02 < positives / trials < 0.05 + 2.6 * math.sqrt(0.05 * 0.95 / trials)
