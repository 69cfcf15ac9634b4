"""Student's t distribution compared with SciPy's."""

import math

import pytest
from scipy import stats

from textgen.evaluation.uncertainty.student_t import two_sided_p, two_sided_quantile


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 7, 15, 16, 99, 1000])
def test_probabilities_and_quantiles_agree_with_scipy(degrees):
    for t in (0.0, 0.3, -2.5, 8.0, math.inf):
        assert two_sided_p(t, degrees) == pytest.approx(2 * stats.t.sf(abs(t), degrees), abs=1e-12)
    for coverage in (0.5, 0.95, 0.999):
        assert two_sided_quantile(degrees, coverage) == pytest.approx(stats.t.ppf((1 + coverage) / 2, degrees))
