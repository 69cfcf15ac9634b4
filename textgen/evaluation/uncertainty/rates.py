"""95 % confidence intervals of rates (shares of yes/no observations) that also hold near 0 and 1.

An event with a rate of 2 % often does not occur at all in a small sample. Then it occurs in no resample either, and the
bootstrap interval is 0 to 0. The interval here is a binomial one instead, on the *effective* number of
observations: those of one cluster (samples of one prompt, tokens of one document) resemble each other, and count for
less than as many independent ones.
"""

import functools
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from textgen.evaluation.uncertainty.beta import beta_cdf
from textgen.evaluation.uncertainty.bootstrap import COVERAGE, Interval
from textgen.evaluation.uncertainty.student_t import two_sided_quantile

_MAX_DEGREES = 1000  # Student's quantile is within 0.2 % of the normal one there, and costs time per degree
_BISECTIONS = 45  # to 3e-14


def rate_interval(hits: ArrayLike, trials: ArrayLike) -> Interval:
    """95 % interval of Σ hits / Σ trials, from the hits and trials of each cluster, both [clusters].

    The mid-P interval of a binomial rate (:func:`mid_p_interval`) with :func:`effective_size` as its number of trials:
    Korn & Graubard's interval for clustered samples (1998, Survey Methodology 24:2, 193–201) with mid-P in place of
    Clopper-Pearson. With one trial per cluster it is the plain binomial interval. No trials give [0, 1].
    """
    hits, trials = np.asarray(hits, dtype=np.float64), np.asarray(trials, dtype=np.float64)
    total = float(trials.sum())
    return mid_p_interval(float(hits.sum()) / total, effective_size(hits, trials)) if total else (0.0, 1.0)


def effective_size(hits: np.ndarray, trials: np.ndarray) -> float:
    """Number of independent trials that would determine the rate as well as these clusters do; both [clusters].

    Total trials / design effect, times a squared ratio of Student's quantiles for estimating the design effect from
    few clusters (Korn & Graubard 1998), and clipped to between 1 and the total. A single cluster counts as one trial.

    The design effect is the variance of the rate (linearized, between clusters) over that of independent trials. Its
    estimate is too low where the rarer outcome occurs in few clusters, and there is none where it occurs in no cluster.
    It is therefore averaged, on a log scale, with a prior guess that weighs as much as one cluster with the rarer
    outcome: the geometric mean of its extremes, 1 (independent trials) and Σ trials² / Σ trials (all trials of a
    cluster agree).
    """
    hits, trials = hits[trials > 0], trials[trials > 0]
    clusters, total = len(trials), float(trials.sum())
    if clusters < 2:
        return 1.0
    rate = float(hits.sum()) / total
    informative = min(np.count_nonzero(hits), np.count_nonzero(hits < trials))  # clusters with the rarer outcome
    estimated = 1.0
    if informative:
        variance = clusters / (clusters - 1) * float(np.square(hits - rate * trials).sum()) / total**2
        estimated = max(1.0, variance / (rate * (1 - rate) / (total - 1)))
    prior = math.sqrt(float(np.square(trials).sum()) / total)
    design_effect = math.exp((informative * math.log(estimated) + math.log(prior)) / (informative + 1))
    return min(total, max(1.0, total / design_effect * (_quantile(total - 1) / _quantile(clusters - 1)) ** 2))


@functools.lru_cache(maxsize=1 << 12)
def mid_p_interval(rate: float, trials: float) -> Interval:
    """95 % interval of a binomial rate from the observed one; ``trials`` need not be a whole number.

    The rates under which P(more hits than observed) + P(as many) / 2 is between 2.5 % and 97.5 % (Lancaster 1961; Berry
    & Armitage 1995, The Statistician 44:4, 417–423). Clopper-Pearson counts all of P(as many) on both sides: it never
    covers less than 95 %, but is wider. Wilson's score interval (1927) is wider too, and covers only 84 % of some rates
    near 0.
    """
    hits = min(rate * trials, trials)
    misses = trials - hits

    def more_hits(p: float) -> float:
        return (beta_cdf(p, hits, misses + 1) + beta_cdf(p, hits + 1, misses)) / 2

    tail = (1 - COVERAGE) / 2
    low = 0.0 if hits == 0 else _solve(more_hits, tail)
    return low, 1.0 if misses == 0 else _solve(more_hits, 1 - tail)


def _solve(increasing: Callable[[float], float], value: float) -> float:
    """The argument in [0, 1] at which an increasing function takes a value, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if increasing(middle) < value else (low, middle)
    return (low + high) / 2


def _quantile(degrees: float) -> float:
    return two_sided_quantile(min(int(degrees), _MAX_DEGREES), COVERAGE)
