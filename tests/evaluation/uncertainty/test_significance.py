"""Paired differences, p values, Holm's correction and sample sizes: known cases and simulations."""

import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.random import default_rng
from scipy import stats

from textgen.evaluation.uncertainty.estimate import Estimate, estimate_of_mean
from textgen.evaluation.uncertainty.significance import (
    difference,
    holm,
    p_value,
    prompts_needed,
    samples_needed,
    student_interval,
)


def mean_of(values: np.ndarray, seed: int = 0) -> Estimate:
    return estimate_of_mean(values, clusters=list(range(len(values))), seed=seed)


def test_a_difference_is_paired():
    random = default_rng(1)
    hard = random.normal(0, 10, size=30)  # what makes a prompt hard for both
    a, b = mean_of(hard + random.normal(0, 0.1, size=30)), mean_of(hard + 1 + random.normal(0, 0.1, size=30))
    paired = difference(a, b)
    assert paired.value == pytest.approx(1, abs=0.1)
    low, high = student_interval(paired)
    assert 0.8 < low < 1 < high < 1.2
    assert a.interval()[0] < b.value < a.interval()[1]  # separate intervals could not distinguish them


def test_a_difference_and_its_p_value_agree_with_the_paired_t_test():
    random = default_rng(2)
    x = random.normal(3, 1, size=25)
    y = x + random.normal(0.3, 0.7, size=25)
    paired = difference(mean_of(x), mean_of(y))
    expected = stats.ttest_rel(y, x)
    assert p_value(paired) == pytest.approx(expected.pvalue, rel=0.25)
    interval = expected.confidence_interval()
    assert student_interval(paired) == pytest.approx((interval.low, interval.high), abs=0.05)


def test_the_interval_excludes_zero_exactly_where_p_is_below_five_percent():
    random = default_rng(3)
    seen = set()
    for trial in range(60):
        x, y = random.normal(size=12), random.normal(random.uniform(0, 2), 1, size=12)
        paired = difference(mean_of(x, seed=trial), mean_of(y, seed=trial))
        low, high = student_interval(paired)
        assert (low > 0 or high < 0) == (p_value(paired) < 0.05)
        seen.add(p_value(paired) < 0.05)
    assert seen == {True, False}


def test_few_prompts_prove_nothing_and_one_says_nothing():
    same = difference(mean_of(np.zeros(5)), mean_of(np.ones(5)))
    assert p_value(same) == 1 / 16
    assert p_value(difference(mean_of(np.zeros(12)), mean_of(np.ones(12)))) == 2.0**-11
    one = difference(mean_of(np.zeros(1)), mean_of(np.ones(1)))
    assert p_value(one) is None
    assert student_interval(one) is None
    assert p_value(difference(mean_of(np.ones(5)), mean_of(np.ones(5)))) == 1


def test_the_difference_of_two_jackknifed_values_is_jackknifed():
    values = default_rng(4).normal(size=(2, 9))
    left = [np.array([np.delete(v, i).mean() for i in range(9)]) for v in values]
    a, b = (Estimate(v.mean(), 9, left_out=out) for v, out in zip(values, left, strict=True))
    expected = stats.ttest_rel(values[1], values[0])
    assert p_value(difference(a, b)) == pytest.approx(expected.pvalue, rel=1e-9)
    with pytest.raises(AssertionError, match="bootstrapped"):
        difference(a, mean_of(values[1]))


def test_holm_by_hand():
    # sorted 0.01, 0.02, 0.03, 0.8: times 4, 3, 2, 1, and never below the previous one
    assert holm([0.02, 0.8, None, 0.01, 0.03]) == pytest.approx([0.06, 0.8, None, 0.04, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([None]) == [None]
    assert holm([]) == []


def test_holm_limits_false_positives_of_a_family_to_five_percent():
    random, positives, uncorrected = default_rng(5), 0, 0
    for trial in range(200):
        human = random.normal(size=16)
        p = [
            p_value(difference(mean_of(human, seed=trial), mean_of(random.normal(size=16), seed=trial)))
            for _ in range(10)
        ]
        positives += any(value < 0.05 for value in holm(p))
        uncorrected += any(value < 0.05 for value in p)
    assert positives / 200 <= 0.085
    assert uncorrected / 200 > 0.15


def test_the_suggested_number_of_prompts_gives_the_wanted_width():
    random = default_rng(6)
    few = mean_of(random.normal(0, 1, size=50))
    needed = prompts_needed(few, width=0.2)
    low, high = mean_of(random.normal(0, 1, size=needed)).interval()
    assert needed == pytest.approx((2 * 1.96 / 0.2) ** 2, rel=0.4)
    assert high - low == pytest.approx(0.2, rel=0.25)
    assert prompts_needed(mean_of(np.ones(5)), width=0.2) is None
    assert prompts_needed(mean_of(np.ones(1)), width=0.2) is None
    assert prompts_needed(few, width=0.0) is None


def test_samples_needed_by_hand():
    # squared standard error 5, of which 4 come from sampling with 3 samples: 12 samples leave 1 + 4·3/12 = 2
    estimate = Estimate(0.0, 100, left_out=np.tile([1.0, -1.0], 50) * math.sqrt(5 / 99), sampling_variance=4.0)
    assert estimate.error() == pytest.approx(math.sqrt(5))
    assert samples_needed(estimate, 2 * 1.959964 * math.sqrt(2.001), samples=3) == 12
    assert samples_needed(estimate, 2 * 1.959964 * math.sqrt(0.999), samples=3) is None  # too small for prompts alone
    assert samples_needed(replace(estimate, sampling_variance=None), 9.0, samples=3) is None
    assert samples_needed(estimate, 0.0, samples=3) is None
