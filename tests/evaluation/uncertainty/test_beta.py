"""The beta distribution compared with SciPy's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from textgen.evaluation.uncertainty.beta import beta_cdf

parameters = st.floats(-2, 5).map(lambda exponent: 10.0**exponent)


@given(parameters, parameters, st.floats(0, 1))
def test_the_cdf_agrees_with_scipy(a, b, x):
    assert beta_cdf(x, a, b) == pytest.approx(special.betainc(a, b, x), abs=1e-8)


@given(parameters, parameters, st.floats(-4, 4))
def test_the_cdf_agrees_with_scipy_near_the_mean(a, b, deviations):
    x = min(1.0, max(0.0, a / (a + b) + deviations * stats.beta.std(a, b)))
    assert beta_cdf(x, a, b) == pytest.approx(special.betainc(a, b, x), abs=1e-8)


def test_it_is_the_tail_of_a_binomial_distribution():
    for successes in range(1, 11):
        expected = stats.binom.sf(successes - 1, 10, 0.3)
        assert beta_cdf(0.3, successes, 10 - successes + 1) == pytest.approx(expected, abs=1e-13)


def test_limits():
    for a, b in ((0, 3), (2, 0), (2, 3)):
        assert beta_cdf(1.0, a, b) == 1.0
    assert beta_cdf(0.0, 2, 3) == 0.0
    assert beta_cdf(0.5, 0, 3) == 1.0  # all the mass at 0
    assert beta_cdf(0.5, 2, 0) == 0.0  # all the mass at 1
