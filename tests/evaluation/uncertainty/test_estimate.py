"""Estimates, their paired differences, p values and how many prompts would do: known cases and simulations."""

import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.random import default_rng
from scipy import stats

from textgen.evaluation.uncertainty.estimate import (
    Estimate,
    difference,
    estimate_of_mean,
    estimate_of_ratio,
    holm,
    p_value,
    prompts_needed,
    samples_needed,
    student_interval,
)
from textgen.evaluation.uncertainty.student_t import two_sided_p, two_sided_quantile


def mean_of(values: np.ndarray, clusters: list[int] | None = None, seed: int = 0) -> Estimate:
    return estimate_of_mean(values, clusters=list(range(len(values))) if clusters is None else clusters, seed=seed)


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 7, 15, 16, 99, 1000])
def test_student_s_distribution_agrees_with_scipy(degrees):
    for t in (0.0, 0.3, -2.5, 8.0, math.inf):
        assert two_sided_p(t, degrees) == pytest.approx(2 * stats.t.sf(abs(t), degrees), abs=1e-12)
    for coverage in (0.5, 0.95, 0.999):
        assert two_sided_quantile(degrees, coverage) == pytest.approx(stats.t.ppf((1 + coverage) / 2, degrees))


def test_the_standard_error_of_a_mean_is_the_textbook_one():
    values = default_rng(0).normal(5, 2, size=40)
    assert mean_of(values).error() == pytest.approx(values.std(ddof=1) / math.sqrt(40), rel=0.05)


def test_a_difference_is_paired():
    random = default_rng(1)
    hard = random.normal(0, 10, size=30)  # what makes a prompt hard for both
    a, b = mean_of(hard + random.normal(0, 0.1, size=30)), mean_of(hard + 1 + random.normal(0, 0.1, size=30))
    paired = difference(a, b)
    assert paired.value == pytest.approx(1, abs=0.1)
    low, high = student_interval(paired)
    assert 0.8 < low < 1 < high < 1.2
    assert a.interval()[0] < b.value < a.interval()[1]  # apart, they could not be told apart


def test_a_difference_and_its_p_value_agree_with_the_paired_t_test():
    random = default_rng(2)
    x = random.normal(3, 1, size=25)
    y = x + random.normal(0.3, 0.7, size=25)
    paired = difference(mean_of(x), mean_of(y))
    expected = stats.ttest_rel(y, x)
    assert p_value(paired) == pytest.approx(expected.pvalue, rel=0.25)
    interval = expected.confidence_interval()
    assert student_interval(paired) == pytest.approx((interval.low, interval.high), abs=0.05)


def test_the_interval_leaves_out_zero_exactly_where_p_is_below_five_percent():
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
    alike = difference(mean_of(np.zeros(5)), mean_of(np.ones(5)))
    assert p_value(alike) == 1 / 16
    assert p_value(difference(mean_of(np.zeros(12)), mean_of(np.ones(12)))) == 2.0**-11
    one = difference(mean_of(np.zeros(1)), mean_of(np.ones(1)))
    assert p_value(one) is None
    assert student_interval(one) is None
    assert p_value(difference(mean_of(np.ones(5)), mean_of(np.ones(5)))) == 1


def test_of_two_jackknifed_figures_the_difference_is_jackknifed():
    values = default_rng(4).normal(size=(2, 9))
    left = [np.array([np.delete(v, i).mean() for i in range(9)]) for v in values]
    a, b = (Estimate(v.mean(), 9, left_out=out) for v, out in zip(values, left, strict=True))
    expected = stats.ttest_rel(values[1], values[0])
    assert p_value(difference(a, b)) == pytest.approx(expected.pvalue, rel=1e-9)
    interval = expected.confidence_interval()
    assert student_interval(difference(a, b)) == pytest.approx((interval.low, interval.high))
    with pytest.raises(AssertionError):
        difference(a, mean_of(values[1]))


def test_an_interval_does_not_pass_what_no_value_can():
    estimate = Estimate(0.98, 3, left_out=np.array([0.9, 1.0, 0.96]), limits=(0.0, 1.0))
    low, high = estimate.interval()
    assert high == 1.0
    assert 0.7 < low < 0.98


def test_holm_by_hand():
    # sorted 0.01, 0.02, 0.03, 0.8: times 4, 3, 2, 1, and never below the one before
    assert holm([0.02, 0.8, None, 0.01, 0.03]) == pytest.approx([0.06, 0.8, None, 0.04, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([None]) == [None]
    assert holm([]) == []


def test_holm_keeps_false_alarms_of_a_family_to_five_percent():
    random, alarms, uncorrected = default_rng(5), 0, 0
    for trial in range(200):
        human = random.normal(size=16)
        p = [
            p_value(difference(mean_of(human, seed=trial), mean_of(random.normal(size=16), seed=trial)))
            for _ in range(10)
        ]
        alarms += any(value < 0.05 for value in holm(p))
        uncorrected += any(value < 0.05 for value in p)
    assert alarms / 200 <= 0.085
    assert uncorrected / 200 > 0.15


def test_as_many_prompts_as_suggested_give_the_wanted_width():
    random = default_rng(6)
    few = mean_of(random.normal(0, 1, size=50))
    needed = prompts_needed(few, width=0.2)
    low, high = mean_of(random.normal(0, 1, size=needed)).interval()
    assert needed == pytest.approx((2 * 1.96 / 0.2) ** 2, rel=0.4)
    assert high - low == pytest.approx(0.2, rel=0.25)
    assert prompts_needed(mean_of(np.ones(5)), width=0.2) is None
    assert prompts_needed(mean_of(np.ones(1)), width=0.2) is None
    assert prompts_needed(few, width=0.0) is None


def test_luck_is_the_variance_within_prompts_and_samples_shrink_it_alone():
    random, prompts, samples = default_rng(7), 400, 4
    between = random.normal(0, 1.0, size=prompts)
    values = between[:, None] + random.normal(0, 2.0, size=(prompts, samples))
    clusters = np.repeat(np.arange(prompts), samples).tolist()
    estimate = mean_of(values.reshape(-1), clusters)
    assert estimate.luck == pytest.approx(2.0**2 / (prompts * samples), rel=0.1)
    assert estimate.error() ** 2 == pytest.approx((1 + 4 / samples) / prompts, rel=0.15)
    assert mean_of(between).luck is None


def test_samples_needed_by_hand():
    # squared standard error 5, of which 4 are luck with 3 samples: 12 samples leave 1 + 4·3/12 = 2
    estimate = Estimate(0.0, 100, left_out=np.tile([1.0, -1.0], 50) * math.sqrt(5 / 99), luck=4.0)
    assert estimate.error() == pytest.approx(math.sqrt(5))
    assert samples_needed(estimate, 2 * 1.959964 * math.sqrt(2.001), samples=3) == 12
    assert samples_needed(estimate, 2 * 1.959964 * math.sqrt(0.999), samples=3) is None  # what prompts alone add
    assert samples_needed(replace(estimate, luck=None), 9.0, samples=3) is None
    assert samples_needed(estimate, 0.0, samples=3) is None


def test_luck_of_a_ratio_is_that_of_its_influences():
    random = default_rng(8)
    sizes = random.integers(20, 60, size=600).astype(float)
    clusters = np.repeat(np.arange(200), 3).tolist()
    estimate = estimate_of_ratio(sizes * random.normal(3, 0.5, size=600), sizes, clusters=clusters, seed=0)
    assert estimate.luck == pytest.approx(estimate.error() ** 2, rel=0.2)  # prompts do not differ here
