"""The beta distribution, and with it the tails of a binomial distribution, without a library."""

import math

_PRECISION = 1e-15
_TINY = 1e-300  # replaces a zero denominator in the continued fraction


def beta_cdf(x: float, a: float, b: float) -> float:
    """I_x(a, b), the probability that a Beta(a, b) variable is at most ``x``, for a, b ≥ 0 that are not both 0.

    For whole numbers 0 < k ≤ n, I_p(k, n−k+1) is the probability of k or more successes in n trials that each succeed
    with probability p. A zero parameter is the limit: all the mass at 0 for a = 0, and at 1 for b = 0.
    """
    if a == 0 or x >= 1:
        return 1.0
    if b == 0 or x <= 0:
        return 0.0
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    # The continued fraction converges fast below the mean only; the other side follows by symmetry.
    if x < (a + 1) / (a + b + 2):
        return math.exp(log_front) * _continued_fraction(x, a, b) / a
    return 1.0 - math.exp(log_front) * _continued_fraction(1 - x, b, a) / b


def _continued_fraction(x: float, a: float, b: float) -> float:
    """The continued fraction of I_x(a, b) by Lentz's method (Press et al. 2007, Numerical Recipes, §6.4).

    It takes about √max(a, b) terms.
    """
    numerator, denominator = 1.0, 1.0 / (1 - (a + b) * x / (a + 1) or _TINY)
    value = denominator
    for m in range(1, 100 + 10 * math.isqrt(1 + int(max(a, b)))):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            denominator = 1.0 / (1 + term * denominator or _TINY)
            numerator = 1 + term / numerator or _TINY
            value *= denominator * numerator
        if abs(denominator * numerator - 1) < _PRECISION:
            break
    return value
