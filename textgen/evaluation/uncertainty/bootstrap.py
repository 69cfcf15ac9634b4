"""95 % confidence intervals for functions of sums over items, by resampling the items (bootstrap) or leaving each out
(jackknife).

An item is what was sampled independently: a document for perplexity, a prompt for continuations. Never a token: tokens
of one document are far from independent, and an interval over tokens would be several times too narrow.

Results depend only on the data and ``seed``. The resamples depend only on the seed and the number of items, so two
models or strategies measured on the same items with the same seed use the same resamples, and their difference is
paired.
"""

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from textgen.evaluation.uncertainty.student_t import two_sided_quantile

Interval = tuple[float, float]
UNBOUNDED: Interval = (-math.inf, math.inf)

RESAMPLES = 2000
COVERAGE = 0.95
NORMAL_QUANTILE = 1.959963984540054  # Φ⁻¹(0.975)

_INDICES_AT_ONCE = 1 << 20  # resampled indices held in memory, 8 MiB


def as_json(interval: Interval) -> list[float] | None:
    """[low, high], or None if an end is not finite, which JSON cannot have."""
    return [float(end) for end in interval] if all(map(math.isfinite, interval)) else None


def per_cluster(values: ArrayLike, clusters: Sequence[int] | None) -> np.ndarray:
    """Sums of ``values`` [items] within each cluster 0, 1, …, in that order; the values themselves if None."""
    array = np.asarray(values, dtype=np.float64)
    if clusters is None:
        return array
    assert len(clusters) == len(array), "one cluster number per item"
    return np.bincount(np.asarray(clusters, dtype=np.int64), weights=array)


def ratio(numerators: ArrayLike, denominators: ArrayLike) -> np.ndarray:
    """Element-wise quotient with 0 / 0 = 0, so that a resample of empty items only still has a value."""
    above, below = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
    return np.divide(above, below, out=np.zeros_like(above), where=below != 0)


def percentile_interval(replicates: ArrayLike, *, items: int | None = None) -> Interval:
    """The middle 95 % of a statistic's values over the resamples (percentile bootstrap, Efron & Tibshirani 1993,
    §13.3), widened for the number of resampled ``items``; None for no widening. Fewer than two items are unbounded:
    they say nothing of how items vary.

    Resamples of n items vary less than samples of n items, by √((n−1)/n), and ignore the uncertainty of their own
    spread, which Student's t accounts for. The *expanded* percentile interval (Hesterberg 2015, The American
    Statistician 69:4, 371–386) corrects both by using the quantiles Φ(±√(n/(n−1)) · t₀.₉₇₅,ₙ₋₁) instead of 2.5 and
    97.5 %.
    """
    tail = (1 - COVERAGE) / 2
    if items is not None:
        if items < 2:
            return UNBOUNDED
        tail = NormalDist().cdf(-math.sqrt(items / (items - 1)) * two_sided_quantile(items - 1, COVERAGE))
    low, high = np.quantile(np.asarray(replicates, dtype=np.float64), [tail, 1 - tail])
    return float(low), float(high)


def resampled_sums(
    columns: Sequence[ArrayLike], *, seed: int, resamples: int = RESAMPLES, clusters: Sequence[int] | None = None
) -> np.ndarray:
    """Sums of each column [items] over items drawn with replacement: [resamples, columns].

    All columns use the same draws. Items of one cluster (the continuations of one prompt, say) are drawn together.
    Memory is bounded by a fixed number of indices, or by one resample where that is larger. No items give zeros.
    """
    values = [per_cluster(column, clusters) for column in columns]
    items = len(values[0])
    assert all(column.shape == (items,) for column in values), "columns of different lengths"
    sums = np.zeros((resamples, len(values)))
    if items == 0:
        return sums
    random = np.random.default_rng(seed)
    rows = max(1, _INDICES_AT_ONCE // items)
    for first in range(0, resamples, rows):
        drawn = random.integers(items, size=(min(rows, resamples - first), items))
        for position, column in enumerate(values):
            sums[first : first + rows, position] = column[drawn].sum(axis=1)
    return sums


def bootstrap(statistic: Callable[[np.ndarray], np.ndarray], columns: Sequence[ArrayLike], *, seed: int) -> Interval:
    """95 % interval of a function of sums: ``statistic`` maps sums [resamples, columns] to values [resamples]."""
    sums = resampled_sums(columns, seed=seed)
    return percentile_interval(statistic(sums), items=len(np.asarray(columns[0])))


def bootstrap_ratio(numerators: ArrayLike, denominators: ArrayLike, *, seed: int) -> Interval:
    """95 % interval of Σ numerators / Σ denominators; both [items]."""
    return bootstrap(lambda sums: ratio(sums[:, 0], sums[:, 1]), [numerators, denominators], seed=seed)


def bootstrap_paired_ratio_difference(
    numerators_a: ArrayLike, denominators_a: ArrayLike, numerators_b: ArrayLike, denominators_b: ArrayLike, *, seed: int
) -> Interval:
    """95 % interval of Σ numerators_b / Σ denominators_b − Σ numerators_a / Σ denominators_a, all [items].

    Entry i of a and of b must be the same item. Both ratios use the same resampled items, so what makes an item hard
    for both cancels, and the interval is much narrower than the two separate intervals suggest.
    """
    return bootstrap(
        lambda sums: ratio(sums[:, 2], sums[:, 3]) - ratio(sums[:, 0], sums[:, 1]),
        [numerators_a, denominators_a, numerators_b, denominators_b],
        seed=seed,
    )


def jackknife_error(leave_one_out: ArrayLike) -> float:
    """Standard error of a statistic from its values without each item in turn, [items]; 0 for fewer than two.

    Its square is (n−1)/n · Σ (θ₍ᵢ₎ − mean θ₍.₎)² (Tukey 1958; Efron & Tibshirani 1993, eq. 11.5).
    """
    values = np.asarray(leave_one_out, dtype=np.float64)
    items = len(values)
    return float(np.sqrt((items - 1) / items * np.square(values - values.mean()).sum())) if items > 1 else 0.0


def jackknife_interval(estimate: float, leave_one_out: ArrayLike) -> Interval:
    """95 % interval from the statistic without each item in turn, [items]: estimate ± Student's t · standard error.

    For statistics that count *distinct* things: a resample with replacement contains only 63 % of the items and repeats
    the rest, so its distinct count is too low, and a bootstrap interval would not even contain the estimate. Uses n − 1
    degrees of freedom; fewer than two items are unbounded.
    """
    items = len(np.asarray(leave_one_out))
    if items < 2:
        return UNBOUNDED
    reach = two_sided_quantile(items - 1, COVERAGE) * jackknife_error(leave_one_out)
    return estimate - reach, estimate + reach
