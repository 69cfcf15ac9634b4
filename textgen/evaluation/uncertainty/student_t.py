"""Student's t distribution for whole degrees of freedom, by finite sums, without a library."""

import functools
import math


def two_sided_p(t: float, degrees: int) -> float:
    """Probability that |T| ≥ |t| for T with ``degrees`` ≥ 1 degrees of freedom.

    Abramowitz & Stegun 1964, 26.7.3 and 26.7.4: a sum of powers of cos θ, with θ = arctan(t/√ν).
    """
    assert degrees >= 1, degrees
    if math.isinf(t):
        return 0.0
    angle = math.atan(abs(t) / math.sqrt(degrees))
    cosine, odd = math.cos(angle), degrees % 2
    term, series = (cosine, 0.0) if odd else (1.0, 0.0)
    for power in range(1 + odd, degrees, 2):  # one term each; the last has cos to the power ν−2
        series += term
        term *= cosine * cosine * power / (power + 1)
    inside = math.sin(angle) * series
    inside = 2 / math.pi * (angle + inside) if odd else inside
    return min(1.0, max(0.0, 1.0 - inside))


@functools.cache
def two_sided_quantile(degrees: int, coverage: float = 0.95) -> float:
    """The t with P(|T| < t) = ``coverage``, by bisection: 12.71 for one degree of freedom, near 1.96 for many."""
    low, high = 0.0, 1.0
    while two_sided_p(high, degrees) > 1 - coverage:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if two_sided_p(middle, degrees) > 1 - coverage else (low, middle)
    return high
