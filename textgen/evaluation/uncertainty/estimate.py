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
    Interval,
    jackknife_error,
    jackknife_interval,
    percentile_interval,
    ratio,
    resampled_sums,
)


@dataclass(frozen=True)
class Estimate:
    """A figure over ``prompts`` prompts, with one of two things that tell how far chance could have moved it.

    ``replicates`` [resamples] are its values over prompts drawn with replacement. A figure that counts what is distinct
    has ``left_out`` [prompts] instead: its values without each prompt in turn (see ``jackknife_interval``).
    ``sampling_variance`` is the part of the squared standard error that more samples of the same prompts would reduce;
    None if it is not known.
    """

    value: float
    prompts: int
    replicates: np.ndarray | None = None
    left_out: np.ndarray | None = None
    sampling_variance: float | None = None
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
    return Estimate(
        value, prompts, replicates, sampling_variance=_sampling_variance(statistic(total - items), clusters, prompts)
    )


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


def _sampling_variance(without_each: np.ndarray, clusters: Sequence[int], prompts: int) -> float | None:
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
