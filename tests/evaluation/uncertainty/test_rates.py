"""Intervals of rates: exact coverage for independent trials, simulated coverage for clusters, special cases."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.random import default_rng
from scipy import stats

from textgen.evaluation.uncertainty.bootstrap import bootstrap_ratio
from textgen.evaluation.uncertainty.rates import effective_size, mid_p_interval, rate_interval


def exact_coverage(trials: int, rates: np.ndarray, interval) -> tuple[np.ndarray, np.ndarray]:
    """Probability that a binomial interval contains each rate, and its expected width: [rates] each.

    ``interval`` is a function of the number of hits.
    """
    low, high = np.array([interval(hits) for hits in range(trials + 1)]).T
    probability = stats.binom.pmf(np.arange(trials + 1)[:, None], trials, rates)  # [hits, rates]
    covered = (low[:, None] <= rates) & (rates <= high[:, None])
    return (probability * covered).sum(axis=0), (probability * (high - low)[:, None]).sum(axis=0)


def observed(hits: int, trials: int) -> tuple[np.ndarray, np.ndarray]:
    """One trial per cluster."""
    return np.repeat([1.0, 0.0], [hits, trials - hits]), np.ones(trials)


@pytest.mark.parametrize("rate", [0.005, 0.02, 0.16, 0.5, 0.98])
@pytest.mark.parametrize("trials", [15, 30, 60, 120])
def test_coverage_of_one_trial_per_cluster_by_enumeration(trials, rate):
    covered, _ = exact_coverage(trials, np.array([rate]), lambda hits: rate_interval(*observed(hits, trials)))
    assert covered >= 0.93


@pytest.mark.parametrize("trials", [10, 30, 60, 200])
def test_mid_p_covers_rare_events_more_often_than_wilson_and_is_narrower_than_clopper_pearson(trials):
    rates = np.geomspace(0.0005, 0.5, 200)
    covered, width = exact_coverage(trials, rates, lambda hits: mid_p_interval(hits / trials, float(trials)))
    assert covered.min() > 0.915
    assert 0.96 < covered.mean() < 0.985

    def binomial(method):
        return lambda hits: stats.binomtest(hits, trials).proportion_ci(method=method)

    wilson_covered, wilson_width = exact_coverage(trials, rates, binomial("wilson"))
    assert wilson_covered.min() < 0.85
    assert width.mean() < wilson_width.mean()
    exact_covered, exact_width = exact_coverage(trials, rates, binomial("exact"))
    assert exact_covered.min() > 0.95
    assert 1.06 < exact_width.mean() / width.mean() < 1.16


def test_the_bootstrap_covers_rare_events_far_less_often():
    covered, _ = exact_coverage(15, np.array([0.02]), lambda hits: bootstrap_ratio(*observed(hits, 15), seed=0))
    assert covered < 0.3


def test_one_trial_per_cluster_gives_the_binomial_mid_p_interval():
    # No hits in n trials: the upper bound p has (1 − p)^n / 2 = 2.5 %.
    low, high = rate_interval(np.zeros(25), np.ones(25))
    assert (low, high) == (0.0, pytest.approx(1 - 0.05 ** (1 / 25), abs=1e-9))
    # For 6 hits in 20 trials, solved with SciPy: P(X > 6) + P(X = 6) / 2 is 2.5 % and 97.5 %.
    low, high = rate_interval([1] * 6 + [0] * 14, np.ones(20))
    for end, tail in ((low, 0.025), (high, 0.975)):
        assert stats.binom.sf(6, 20, end) + stats.binom.pmf(6, 20, end) / 2 == pytest.approx(tail, abs=1e-9)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=30))
def test_bounds_are_ordered_between_0_and_1_and_mirrored(pairs):
    hits = np.array([min(pair) for pair in pairs], dtype=float)
    trials = np.array([max(pair) for pair in pairs], dtype=float)
    low, high = rate_interval(hits, trials)
    assert 0 <= low < high <= 1
    if trials.sum():
        assert low <= hits.sum() / trials.sum() <= high
        assert 1 <= effective_size(hits, trials) <= trials.sum()
        assert (low == 0) == (hits.sum() == 0)
        assert (high == 1) == (hits.sum() == trials.sum())
    mirrored = rate_interval(trials - hits, trials)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-9)


def test_no_hits_give_zero_and_a_positive_upper_bound():
    for clusters in (1, 2, 15, 200):
        low, high = rate_interval(np.zeros(clusters), np.full(clusters, 4))
        assert low == 0
        assert 0 < high < 1
        assert rate_interval(np.full(clusters, 4), np.full(clusters, 4)) == (pytest.approx(1 - high), 1)
    upper = [rate_interval(np.zeros(clusters), np.full(clusters, 4))[1] for clusters in (1, 2, 15, 200)]
    assert upper == sorted(upper, reverse=True)


def test_no_trials_give_the_interval_from_0_to_1():
    assert rate_interval([], []) == (0.0, 1.0)
    assert rate_interval([0.0, 0.0], [0.0, 0.0]) == (0.0, 1.0)


def test_one_cluster_counts_as_one_trial():
    assert rate_interval([0.0], [1.0]) == (0.0, pytest.approx(0.95))
    assert rate_interval([0.0], [50.0]) == rate_interval([0.0], [1.0])
    low, high = rate_interval([20.0], [50.0])
    assert low < 0.05
    assert high > 0.9


def test_clusters_without_trials_do_not_count():
    assert rate_interval([1, 0, 0, 2, 0], [3, 0, 4, 3, 0]) == rate_interval([1, 0, 2], [3, 4, 3])


def test_trials_that_all_agree_count_as_one():
    votes = np.repeat([1.0, 0.0], [40, 160])
    low, high = rate_interval(3 * votes, np.full(200, 3))
    assert (low, high) == pytest.approx(rate_interval(votes, np.ones(200)), abs=0.01)
    independent = mid_p_interval(0.2, 600)
    assert high - low > 1.6 * (independent[1] - independent[0])


def test_the_effective_size_of_independent_trials_is_near_their_number():
    random = default_rng(0)
    sizes = [effective_size(random.binomial(5, 0.3, size=100) * 1.0, np.full(100, 5.0)) for _ in range(50)]
    assert 450 < np.mean(sizes) <= 500


def clustered_coverage(per_cluster: int, correlation: float, rate: float, *intervals, clusters: int = 40) -> np.ndarray:
    """Share of 400 samples of beta-binomial clusters for which each interval contains the rate."""
    random, draws = default_rng(1), 400
    strength = (1 - correlation) / correlation
    trials = np.full(clusters, per_cluster)
    covered = np.zeros(len(intervals))
    for _ in range(draws):
        hits = random.binomial(per_cluster, random.beta(rate * strength, (1 - rate) * strength, size=clusters))
        bounds = (interval(hits, trials) for interval in intervals)
        covered += [low <= rate <= high for low, high in bounds]
    return covered / draws


def as_if_independent(hits: np.ndarray, trials: np.ndarray) -> tuple[float, float]:
    return mid_p_interval(float(hits.sum() / trials.sum()), float(trials.sum()))


@pytest.mark.parametrize(
    ("per_cluster", "correlation", "rate"),
    [(2, 0.3, 0.01), (2, 0.3, 0.1), (60, 0.05, 0.01), (60, 0.05, 0.1), (60, 0.3, 0.1)],
)
def test_coverage_of_clustered_trials(per_cluster, correlation, rate):
    clustered, independent = clustered_coverage(per_cluster, correlation, rate, rate_interval, as_if_independent)
    assert clustered >= 0.92
    if per_cluster == 60:
        assert independent < 0.85


def test_hits_in_a_few_clusters_only_are_covered_too_rarely_but_more_often_than_by_the_bootstrap():
    clustered, bootstrapped = clustered_coverage(60, 0.3, 0.01, rate_interval, partial(bootstrap_ratio, seed=0))
    assert 0.75 < clustered < 0.87
    assert 0.65 < bootstrapped < clustered - 0.05
