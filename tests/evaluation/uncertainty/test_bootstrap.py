"""Bootstrap and jackknife intervals: known cases, pairing, coverage."""

import math

import numpy as np
import pytest
from numpy.random import default_rng

from textgen.evaluation.uncertainty import bootstrap as bootstrap_module
from textgen.evaluation.uncertainty.bootstrap import (
    Interval,
    as_json,
    bootstrap,
    bootstrap_paired_ratio_difference,
    bootstrap_ratio,
    jackknife_interval,
    percentile_interval,
    resampled_sums,
)


def mean_interval(values, seed: int = 0, resamples: int = 2000, clusters=None) -> Interval:
    """Of the mean of the values, with any number of resamples, and of clusters of equal sizes."""
    sums = resampled_sums([values], seed=seed, resamples=resamples, clusters=clusters)[:, 0]
    return percentile_interval(sums / len(values), items=len(set(clusters)) if clusters else len(values))


@pytest.mark.parametrize("items", [0, 1])
def test_fewer_than_two_items_do_not_bound_a_ratio(items):
    interval = bootstrap_ratio([3.0] * items, [4.0] * items, seed=0)
    assert interval == (-math.inf, math.inf)
    assert as_json(interval) is None
    assert as_json((0.25, np.float64(0.5))) == [0.25, 0.5]


def test_empty_items_give_numbers():
    assert bootstrap_ratio([0.0, 0.0, 0.0], [0.0, 0.0, 0.0], seed=0) == (0.0, 0.0)
    low, high = bootstrap_ratio([0.0, 0.0, 1.0], [0.0, 0.0, 2.0], seed=0)  # many resamples miss the third item
    assert (low, high) == (0.0, 0.5)


def test_a_constant_ratio_has_no_width_whatever_the_sizes():
    sizes = np.array([1.0, 10.0, 100.0, 3.0])
    low, high = bootstrap_ratio(2.5 * sizes, sizes, seed=1)
    assert (low, high) == pytest.approx((2.5, 2.5), rel=1e-12)


def test_mean_interval_agrees_with_the_normal_one_for_many_items():
    values = default_rng(3).normal(5.0, 2.0, size=2000)
    error = values.std() / np.sqrt(len(values))
    low, high = mean_interval(values, resamples=4000)
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)


def test_two_values_give_the_quantiles_of_a_binomial():
    # Of 4 draws from {0, 1}, all are 0 with probability 1/16, which is more than 2.5 %, so the ends are 0 and 1.
    assert bootstrap_ratio([0, 1, 0, 1], np.ones(4), seed=0) == (0.0, 1.0)


def test_ratio_is_of_sums_and_not_the_mean_of_ratios():
    numerators, denominators = [1.0, 1000.0] * 200, [1.0, 2000.0] * 200
    low, high = bootstrap_ratio(numerators, denominators, seed=0)
    assert low <= 1001 / 2001 <= high < 0.51


def test_the_same_seed_and_number_of_items_give_the_same_resamples():
    values = default_rng(0).normal(size=50)
    sums = resampled_sums([values], seed=7)
    beside_another_column = resampled_sums([np.arange(50), values], seed=7)
    assert np.array_equal(sums[:, 0], beside_another_column[:, 1])
    assert not np.array_equal(sums, resampled_sums([values], seed=8))


def test_memory_limit_does_not_change_the_resamples(monkeypatch):
    values = default_rng(0).normal(size=31)
    whole = resampled_sums([values], seed=7, resamples=100)
    monkeypatch.setattr(bootstrap_module, "_INDICES_AT_ONCE", 64)
    assert np.array_equal(whole, resampled_sums([values], seed=7, resamples=100))


def test_a_resample_has_the_number_of_items():
    assert (resampled_sums([np.ones(13)], seed=0, resamples=50) == 13).all()


def test_paired_difference_of_a_constant_shift_has_no_width_though_each_interval_has():
    sizes = np.full(40, 100.0)
    a = default_rng(0).normal(300, 50, size=40)
    low, high = bootstrap_paired_ratio_difference(a, sizes, a - 10, sizes, seed=0)
    assert (low, high) == pytest.approx((-0.1, -0.1), abs=1e-12)
    separate = bootstrap_ratio(a, sizes, seed=0)
    assert separate[1] - separate[0] > 0.1


def test_paired_difference_has_the_sign_of_b_minus_a():
    low, high = bootstrap_paired_ratio_difference([1.0, 1.1], [1.0, 1.0], [2.0, 2.2], [1.0, 1.0], seed=0)
    assert 0 < low <= high


def test_items_of_one_cluster_are_drawn_together():
    values = default_rng(0).normal(size=30)
    copies = np.repeat(values, 10)  # ten copies carry no more information than one
    clusters = np.repeat(np.arange(30), 10).tolist()
    assert mean_interval(copies, clusters=clusters) == pytest.approx(mean_interval(values), rel=1e-9)
    low, high = mean_interval(copies)
    correct_low, correct_high = mean_interval(values)
    assert high - low < 0.5 * (correct_high - correct_low)


def test_bootstrap_of_a_product_of_sums():
    low, high = bootstrap(lambda sums: sums[:, 0] * sums[:, 1], [[1.0, 1.0], [3.0, 3.0]], seed=0)
    assert (low, high) == (12.0, 12.0)


def test_jackknife_of_a_mean_is_the_textbook_standard_error():
    values = default_rng(0).normal(size=25)
    leave_one_out = [np.delete(values, index).mean() for index in range(25)]
    error = values.std(ddof=1) / np.sqrt(25)
    low, high = jackknife_interval(values.mean(), leave_one_out)
    reach = 2.0638986 * error  # Student's t, 24 degrees of freedom
    assert (low, high) == pytest.approx((values.mean() - reach, values.mean() + reach), abs=1e-6)


def test_jackknife_of_fewer_than_two_items_has_no_bounds():
    assert jackknife_interval(0.25, []) == jackknife_interval(0.25, [0.0]) == (-math.inf, math.inf)


def test_an_interval_of_few_items_is_as_wide_as_students():
    # For the mean of normal values, Student's interval is exact; the percentile one is 12 % too narrow for 10 items.
    values = default_rng(5).normal(size=10)
    values = (values - values.mean()) / values.std(ddof=1)
    low, high = mean_interval(values, resamples=40_000)
    exact = 2.262157 / np.sqrt(10)
    assert (high - low) / 2 == pytest.approx(exact, rel=0.03)
    low, high = percentile_interval(resampled_sums([values], seed=0, resamples=40_000)[:, 0] / 10)
    assert (high - low) / 2 == pytest.approx(exact * np.sqrt(0.9) * 1.959964 / 2.262157, rel=0.03)


@pytest.mark.parametrize("items", [12, 60])
def test_95_percent_intervals_cover_the_truth_95_percent_of_the_time(items):
    random, trials = default_rng(11), 400
    covered = dict.fromkeys((0.8, 1.0, 1.6), 0)  # by how much the interval is widened
    for trial in range(trials):
        values = random.gamma(4.0, 0.25, size=items)  # skewed, with a mean of 1
        low, high = bootstrap_ratio(values, np.ones(items), seed=trial)
        middle, half = (low + high) / 2, (high - low) / 2
        for factor in covered:
            covered[factor] += abs(middle - 1.0) <= factor * half
    # Three standard errors of 400 trials around 95 %, which is enough to detect a wrong width.
    assert 0.92 <= covered[1.0] / trials <= 0.975
    assert covered[0.8] / trials < 0.92
    assert covered[1.6] / trials > 0.975
