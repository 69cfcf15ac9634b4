"""An estimate: a value with everything that its interval, and its paired difference from another, are computed from.

The item is the prompt: prompts were drawn independently of each other, continuations of one prompt were not. Two
estimates over the same prompts are compared by exchanging their texts, prompt by prompt (``label_swap.py``), so their
difference is free of what makes a prompt hard for both.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from textgen.evaluation.uncertainty.bootstrap import (
    UNBOUNDED,
    Interval,
    jackknife_error,
    jackknife_interval,
    per_cluster,
    percentile_interval,
    ratio,
    resampled_sums,
)
from textgen.evaluation.uncertainty.label_swap import SUMS, Effort
from textgen.evaluation.uncertainty.rates import rate_interval

Exchanged = Callable[[Sequence[Any], Sequence[Any], np.ndarray], tuple[np.ndarray, np.ndarray]]
"""From the parts of two sides, one part per prompt, and the prompts that are swapped in each arrangement, bool
[arrangements, prompts], to the values of both sides in each arrangement, [arrangements] each."""


@dataclass(frozen=True)
class PromptParts:
    """What a value is computed from, prompt by prompt, so that it can be computed for other sets of texts.

    Attributes:
        parts: one part per prompt: its sums, its texts.
        exchanged: computes the values of two sides that exchanged the parts of some prompts.
        effort: in how many arrangements.
    """

    parts: Sequence[Any]
    exchanged: Exchanged
    effort: Effort = SUMS

    def of(self, prompts: Sequence[int]) -> "PromptParts":
        """The same for some of the prompts, given by their numbers."""
        return PromptParts([self.parts[prompt] for prompt in prompts], self.exchanged, self.effort)

    def value(self) -> float:
        """The value over these prompts."""
        nothing_swapped = np.zeros((1, len(self.parts)), dtype=bool)
        return float(self.exchanged(self.parts, self.parts, nothing_swapped)[0][0])


@dataclass(frozen=True)
class Estimate:
    """A value over ``prompts`` prompts, with what its uncertainty is computed from.

    Attributes:
        value: the value over all prompts.
        prompts: the number of prompts.
        replicates: the values over prompts drawn with replacement, [resamples].
        left_out: the values without each prompt in turn, [prompts]; in place of ``replicates`` for values that count
            distinct things (see ``jackknife_interval``).
        sampling_variance: the part of the squared standard error that more samples of the same prompts would reduce;
            None if unknown.
        limits: the smallest and largest possible value; intervals are cut off there.
        rate_bounds: the interval of a rate (see ``rates.py``), which replaces the one from ``replicates``.
        parts: what the value is computed from, for comparisons with another estimate over the same prompts.
    """

    value: float
    prompts: int
    replicates: np.ndarray | None = None
    left_out: np.ndarray | None = None
    sampling_variance: float | None = None
    limits: Interval = (-math.inf, math.inf)
    rate_bounds: Interval | None = None
    parts: PromptParts | None = None

    def interval(self) -> Interval:
        """95 % interval: that of the rate, or percentiles of the replicates, or the jackknife's.

        Fewer than two prompts are unbounded, except for a rate.
        """
        if self.prompts < 2 and self.rate_bounds is None:
            return UNBOUNDED
        if self.rate_bounds is not None:
            low, high = self.rate_bounds
        elif self.replicates is not None:
            low, high = percentile_interval(self.replicates, items=self.prompts)
        else:
            low, high = jackknife_interval(self.value, [] if self.left_out is None else self.left_out)
        return max(low, self.limits[0]), min(high, self.limits[1])

    def error(self) -> float:
        """Standard error: of the replicates, times the √(n/(n−1)) that a bootstrap lacks; or the jackknife's."""
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
    """Estimate a function of sums over continuations.

    Args:
        statistic: maps sums [any, columns] to values [any].
        columns: values that are summed, [continuations] each.
        clusters: the number 0, 1, … of each continuation's prompt.
        seed: random seed of the bootstrap.
        value: the statistic over all continuations, if already known.
    """
    replicates = statistic(resampled_sums(columns, seed=seed, clusters=clusters))
    items = np.stack([np.asarray(column, dtype=np.float64) for column in columns], axis=1)
    total = items.sum(axis=0, keepdims=True)
    if value is None:
        value = float(statistic(total)[0])
    prompts = len(set(clusters))
    return Estimate(
        value,
        prompts,
        replicates,
        sampling_variance=_sampling_variance(statistic(total - items), clusters, prompts),
        parts=PromptParts(list(_means(items, clusters, prompts)), functools.partial(exchanged_sums, statistic)),
    )


def exchanged_sums(
    statistic: Callable[[np.ndarray], np.ndarray], a: Sequence[Any], b: Sequence[Any], swapped: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A function of sums over prompts, in each arrangement (see :data:`Exchanged`); a part is a row of summands."""
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    moved = swapped.astype(np.float64) @ (second - first)
    return statistic(first.sum(axis=0) + moved), statistic(second.sum(axis=0) - moved)


def _means(items: np.ndarray, clusters: Sequence[int], prompts: int) -> np.ndarray:
    """The mean of each prompt's rows of ``items`` [continuations, columns]: [prompts, columns].

    Means, so that a prompt weighs the same on both sides, however many samples each has of it.
    """
    numbers = np.asarray(clusters, dtype=np.int64)
    sums = np.zeros((prompts, items.shape[1]))
    np.add.at(sums, numbers, items)
    return sums / np.bincount(numbers, minlength=prompts)[:, None]


def estimate_of_ratio(
    numerators: ArrayLike,
    denominators: ArrayLike,
    *,
    clusters: Sequence[int],
    seed: int,
    value: float | None = None,
) -> Estimate:
    """Estimate Σ numerators / Σ denominators, both [continuations]."""
    return estimate_of_sums(
        lambda sums: ratio(sums[..., 0], sums[..., 1]),
        [numerators, denominators],
        clusters=clusters,
        seed=seed,
        value=value,
    )


def estimate_of_mean(values: ArrayLike, *, clusters: Sequence[int], seed: int, value: float | None = None) -> Estimate:
    """Estimate the mean of ``values`` [continuations]."""
    ones = np.ones(len(clusters))
    return estimate_of_ratio(values, ones, clusters=clusters, seed=seed, value=value)


def estimate_of_rate(hits: ArrayLike, *, clusters: Sequence[int], seed: int) -> Estimate:
    """Estimate the share of continuations with a property, from 1 for each that has it and 0 for others.

    The same value and paired differences as :func:`estimate_of_mean`; its interval also holds near 0 and 1, where all
    resamples may agree.
    """
    trials = per_cluster(np.ones(len(clusters)), clusters)
    bounds = rate_interval(per_cluster(hits, clusters), trials)
    return replace(estimate_of_mean(hits, clusters=clusters, seed=seed), limits=(0.0, 1.0), rate_bounds=bounds)


def _sampling_variance(without_each: np.ndarray, clusters: Sequence[int], prompts: int) -> float | None:
    """The part of the squared standard error that comes from sampling continuations.

    Takes the statistic without each continuation, [continuations]. The influence of a continuation is (N−1)·(mean −
    value without it), and the statistic has the error of a mean of influences. One-way analysis of variance: the
    variance σ² within prompts contributes σ²/N. None unless a prompt has two continuations.
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
