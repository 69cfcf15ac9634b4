"""An estimate: a figure with what its interval, and its paired difference from another figure, are made of.

The item is the prompt: prompts were drawn independently of each other, their continuations were not. Two estimates over
the same prompts with the same seed rest on the same resamples, so that their difference, taken resample by resample, is
free of what makes a prompt hard for both.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from textgen.evaluation.uncertainty.bootstrap import (
    NORMAL_QUANTILE,
    Interval,
    jackknife_error,
    jackknife_interval,
    percentile_interval,
    ratio,
    resampled_sums,
)
from textgen.evaluation.uncertainty.student_t import two_sided_p, two_sided_quantile


@dataclass(frozen=True)
class Estimate:
    """A figure over ``prompts`` prompts, with one of two things that tell how far chance could have moved it.

    ``replicates`` [resamples] are its values over prompts drawn with replacement. A figure that counts what is distinct
    has ``left_out`` [prompts] instead: its values without each prompt in turn (see ``jackknife_interval``). ``luck`` is
    the part of the squared standard error that more samples of the same prompts would shrink, None if it is not known.
    """

    value: float
    prompts: int
    replicates: np.ndarray | None = None
    left_out: np.ndarray | None = None
    luck: float | None = None
    limits: Interval = (-math.inf, math.inf)  # which no value can pass: an interval is cut off there

    def interval(self) -> Interval:
        """95 % interval: percentiles of the replicates, or the jackknife's; [value, value] for one prompt."""
        if self.replicates is not None:
            low, high = percentile_interval(self.replicates, items=self.prompts)
        else:
            low, high = jackknife_interval(self.value, [] if self.left_out is None else self.left_out)
        return max(low, self.limits[0]), min(high, self.limits[1])

    def error(self) -> float:
        """Standard error: of the replicates, times √(n/(n−1)), which a bootstrap falls short by; or the jackknife's."""
        if self.prompts < 2:
            return 0.0
        if self.replicates is not None:
            return float(self.replicates.std() * math.sqrt(self.prompts / (self.prompts - 1)))
        return 0.0 if self.left_out is None else jackknife_error(self.left_out)


def estimate_of_sums(
    statistic: Callable[[np.ndarray], np.ndarray],
    columns: Sequence[ArrayLike],
    *,
    clusters: Sequence[int],
    seed: int,
    value: float | None = None,
) -> Estimate:
    """The estimate of a function of sums: ``statistic`` maps sums [anything, columns] to values [anything].

    ``columns`` are of shape [continuations]; ``clusters`` are the numbers 0, 1, … of their prompts. ``value`` saves
    computing again what is known.
    """
    replicates = statistic(resampled_sums(columns, seed=seed, clusters=clusters))
    items = np.stack([np.asarray(column, dtype=np.float64) for column in columns], axis=1)
    total = items.sum(axis=0, keepdims=True)
    if value is None:
        value = float(statistic(total)[0])
    prompts = len(set(clusters))
    return Estimate(value, prompts, replicates, luck=_luck(statistic(total - items), clusters, prompts))


def estimate_of_ratio(
    numerators: ArrayLike,
    denominators: ArrayLike,
    *,
    clusters: Sequence[int],
    seed: int,
    value: float | None = None,
) -> Estimate:
    """The estimate of Σ numerators / Σ denominators, both [continuations]."""
    return estimate_of_sums(
        lambda sums: ratio(sums[..., 0], sums[..., 1]),
        [numerators, denominators],
        clusters=clusters,
        seed=seed,
        value=value,
    )


def estimate_of_mean(values: ArrayLike, *, clusters: Sequence[int], seed: int, value: float | None = None) -> Estimate:
    """The estimate of the mean of ``values`` [continuations]."""
    ones = np.ones(len(clusters))
    return estimate_of_ratio(values, ones, clusters=clusters, seed=seed, value=value)


def _luck(without_each: np.ndarray, clusters: Sequence[int], prompts: int) -> float | None:
    """Squared standard error that comes from sampling: from the statistic without each continuation, [continuations].

    An item's influence is (N−1)·(mean − value without it), and the figure errs as a mean of influences does. One-way
    analysis of variance: the variance σ² within prompts adds σ²/N. None unless a prompt has two continuations.
    """
    items = len(without_each)
    if items <= prompts:
        return None
    influence = (items - 1) * (without_each.mean() - without_each)
    numbers = np.asarray(clusters)
    counts = np.bincount(numbers, minlength=prompts)
    means = np.bincount(numbers, weights=influence, minlength=prompts) / counts
    within = float(np.square(influence - means[numbers]).sum()) / (items - prompts)
    return within / items


def difference(a: Estimate, b: Estimate) -> Estimate:
    """The paired estimate of b − a; both must be over the same prompts in the same order, with the same seed."""
    assert a.prompts == b.prompts, "a paired difference takes the same prompts"
    known = [estimate.luck for estimate in (a, b) if estimate.luck is not None]
    luck = sum(known) if known else None
    value = b.value - a.value
    if a.replicates is not None and b.replicates is not None:
        return Estimate(value, a.prompts, replicates=b.replicates - a.replicates, luck=luck)
    assert a.left_out is not None, "one is bootstrapped, the other is not"
    assert b.left_out is not None, "one is bootstrapped, the other is not"
    return Estimate(value, a.prompts, left_out=b.left_out - a.left_out, luck=luck)


def student_interval(estimate: Estimate) -> Interval | None:
    """95 % interval of a difference: value ± t·(standard error), with n−1 degrees of freedom for n prompts.

    Not the percentiles, which with few prompts are too near each other: with 16, they cover some 92 %. None for fewer
    than two prompts, which say nothing about the others.
    """
    if estimate.prompts < 2:
        return None
    reach = two_sided_quantile(estimate.prompts - 1) * estimate.error()
    return estimate.value - reach, estimate.value + reach


def p_value(estimate: Estimate) -> float | None:
    """Probability of a difference at least this large if there were none; None for fewer than two prompts.

    Two-sided, of value / standard error under Student's t with n−1 degrees of freedom: so it is below 0.05 where
    ``student_interval`` leaves out 0, with one exception. It is never below 2^(1−n), the least that an exact test of
    the signs of n paired differences can give: five prompts that all say the same are no proof.
    """
    if estimate.prompts < 2:
        return None
    if estimate.value == 0:
        return 1.0
    error = estimate.error()
    p = two_sided_p(estimate.value / error, estimate.prompts - 1) if error > 0 else 0.0
    return max(p, 2.0 ** (1 - estimate.prompts))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """p values corrected for how many there are (Holm 1979): with these, 5 % is the chance of *any* false alarm.

    The i-th smallest of m is multiplied by m−i+1, and none may be below a smaller one's. None stays None, uncounted.
    """
    known = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, index) in enumerate(known):
        largest = max(largest, min(1.0, p * (len(known) - rank)))
        corrected[index] = largest
    return corrected


def prompts_needed(estimate: Estimate, width: float) -> int | None:
    """How many prompts, drawn as these were, would make the 95 % interval of a difference ``width`` wide.

    n·(width now / width)², at least 2: the standard error falls with √n. None if nothing is known of its variance, that
    is for fewer than two prompts or if it has none.
    """
    error = estimate.error()
    if error == 0 or not width > 0:
        return None
    return max(2, math.ceil(estimate.prompts * (2 * NORMAL_QUANTILE * error / width) ** 2))


def samples_needed(estimate: Estimate, width: float, samples: float) -> int | None:
    """How many samples of each of the same prompts would do so, at ``samples`` of each now.

    Samples shrink only the part of the squared error that ``luck`` is: None if it is not known, and if the rest alone
    is too large, so that only more prompts can help.
    """
    if estimate.luck is None or not width > 0:
        return None
    wanted = (width / 2 / NORMAL_QUANTILE) ** 2
    luck = min(estimate.luck, estimate.error() ** 2)
    rest = estimate.error() ** 2 - luck
    return max(1, math.ceil(samples * luck / (wanted - rest))) if wanted > rest else None
