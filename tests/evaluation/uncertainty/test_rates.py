"""Intervals of rates: exact coverage for independent observations, simulated coverage for clusters, special cases."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.random import default_rng
from scipy import stats

from textgen.evaluation.uncertainty.bootstrap import bootstrap_ratio
from textgen.evaluation.uncertainty.rates import effective_size, mid_p_interval, rate_interval


def exact_coverage(trials: int, rate: float, interval) -> tuple[float, float]:
    """Probability that the interval contains the rate, and its expected width, with one trial per cluster."""
    covered = width = 0.0
    for hits in range(trials + 1):
        observed = np.repeat([1.0, 0.0], [hits, trials - hits])
        low, high = interval(observed, np.ones(trials))
        probability = stats.binom.pmf(hits, trials, rate)
        covered += probability * (low <= rate <= high)
        width += probability * (high - low)
    return covered, width


@pytest.mark.parametrize("rate", [0.005, 0.02, 0.16, 0.5, 0.98])
@pytest.mark.parametrize("trials", [15, 30, 60, 120])
def test_coverage_of_independent_trials_is_never_far_below_95_percent(trials, rate):
    covered, width = exact_coverage(trials, rate, rate_interval)
    assert covered >= 0.93
    # At most 10 % wider than Wilson's score interval at the true rate.
    wilson = 2 * 1.96 * np.sqrt(rate * (1 - rate) / trials + 1.96**2 / (4 * trials**2)) / (1 + 1.96**2 / trials)
    assert width < 1.1 * wilson


def test_the_bootstrap_covers_rare_events_far_less_often():
    covered, _ = exact_coverage(15, 0.02, partial(bootstrap_ratio, seed=0))
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


def test_no_trials_say_nothing():
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


@pytest.mark.parametrize(
    ("per_cluster", "correlation", "rate"),
    [(2, 0.3, 0.01), (2, 0.3, 0.1), (60, 0.05, 0.01), (60, 0.05, 0.1), (60, 0.3, 0.1)],
)
def test_coverage_of_clustered_trials(per_cluster, correlation, rate):
    random, clusters, draws = default_rng(1), 40, 400
    strength = (1 - correlation) / correlation
    covered = covered_as_if_independent = 0
    for _ in range(draws):
        rates = random.beta(rate * strength, (1 - rate) * strength, size=clusters)
        hits, trials = random.binomial(per_cluster, rates), np.full(clusters, per_cluster)
        low, high = rate_interval(hits, trials)
        covered += low <= rate <= high
        low, high = mid_p_interval(float(hits.sum() / trials.sum()), float(trials.sum()))
        covered_as_if_independent += low <= rate <= high
    assert covered / draws >= 0.92
    if per_cluster == 60:
        assert covered_as_if_independent / draws < 0.85
