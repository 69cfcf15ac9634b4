"""Estimates: standard errors, intervals, rates, and the part of the variance that comes from sampling."""

import math

import numpy as np
import pytest
from numpy.random import default_rng

from textgen.evaluation.uncertainty.estimate import Estimate, estimate_of_mean, estimate_of_rate, estimate_of_ratio
from textgen.evaluation.uncertainty.rates import rate_interval
from textgen.evaluation.uncertainty.significance import difference


def mean_of(values: np.ndarray, clusters: list[int] | None = None, seed: int = 0) -> Estimate:
    return estimate_of_mean(values, clusters=list(range(len(values))) if clusters is None else clusters, seed=seed)


def test_the_standard_error_of_a_mean_is_the_textbook_one():
    values = default_rng(0).normal(5, 2, size=40)
    assert mean_of(values).error() == pytest.approx(values.std(ddof=1) / math.sqrt(40), rel=0.05)


def test_an_interval_is_cut_off_at_the_limits():
    estimate = Estimate(0.98, 3, left_out=np.array([0.9, 1.0, 0.96]), limits=(0.0, 1.0))
    low, high = estimate.interval()
    assert high == 1.0
    assert 0.7 < low < 0.98


def test_a_rate_has_the_value_and_replicates_of_a_mean_and_its_own_interval():
    hits = (default_rng(1).random(60) < 0.2) * 1.0
    clusters = np.repeat(np.arange(20), 3).tolist()
    rate, mean = estimate_of_rate(hits, clusters=clusters, seed=3), mean_of(hits, clusters, seed=3)
    assert (rate.value, rate.prompts, rate.sampling_variance) == (mean.value, 20, mean.sampling_variance)
    assert np.array_equal(rate.replicates, mean.replicates)
    assert rate.error() == mean.error()
    assert rate.interval() == rate_interval(hits.reshape(20, 3).sum(axis=1), np.full(20, 3)) != mean.interval()


def test_a_rate_of_zero_has_an_interval_and_a_paired_difference():
    clusters = list(range(16))
    none, some = (estimate_of_rate([0.0] * (16 - n) + [1.0] * n, clusters=clusters, seed=0) for n in (0, 6))
    low, high = none.interval()
    assert low == 0 < high < 0.25
    paired = difference(none, some, seed=0)
    assert paired.value == 6 / 16
    assert paired.p_value() == 2 / 2**6  # only the six prompts that differ matter
    low, high = paired.interval()
    assert 0.05 < low < 6 / 16 < high < 0.75


@pytest.mark.parametrize("prompts", [0, 1])
def test_a_rate_over_one_prompt_or_none_has_a_wide_interval(prompts):
    estimate = estimate_of_rate([0.0] * prompts, clusters=list(range(prompts)), seed=0)
    assert (estimate.value, estimate.prompts, estimate.error()) == (0.0, prompts, 0.0)
    low, high = estimate.interval()
    assert low == 0
    assert high >= 0.95


def test_sampling_variance_is_the_variance_within_prompts_and_only_it_shrinks_with_samples():
    random, prompts, samples = default_rng(7), 400, 4
    between = random.normal(0, 1.0, size=prompts)
    values = between[:, None] + random.normal(0, 2.0, size=(prompts, samples))
    clusters = np.repeat(np.arange(prompts), samples).tolist()
    estimate = mean_of(values.reshape(-1), clusters)
    assert estimate.sampling_variance == pytest.approx(2.0**2 / (prompts * samples), rel=0.1)
    assert estimate.error() ** 2 == pytest.approx((1 + 4 / samples) / prompts, rel=0.15)
    assert mean_of(between).sampling_variance is None


def test_sampling_variance_of_a_ratio_is_that_of_its_influences():
    random = default_rng(8)
    sizes = random.integers(20, 60, size=600).astype(float)
    clusters = np.repeat(np.arange(200), 3).tolist()
    estimate = estimate_of_ratio(sizes * random.normal(3, 0.5, size=600), sizes, clusters=clusters, seed=0)
    assert estimate.sampling_variance == pytest.approx(estimate.error() ** 2, rel=0.2)  # prompts do not differ here
