"""Paired differences between estimates, p values corrected for multiple comparisons, and numbers of prompts needed."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from textgen.evaluation.uncertainty.bootstrap import COVERAGE, NORMAL_QUANTILE
from textgen.evaluation.uncertainty.estimate import Estimate, PromptParts
from textgen.evaluation.uncertainty.label_swap import Difference, arrangements, smallest_p


def difference(a: Estimate, b: Estimate, *, seed: int) -> Difference:
    """The paired difference b − a, tested by exchanging the texts of each prompt.

    Both must be of the same metric over the same prompts in the same order.

    Args:
        a: the reference.
        b: the estimate that is compared with it.
        seed: determines the arrangements that are drawn, for more than 16 prompts.
    """
    assert a.prompts == b.prompts, "a paired difference needs the same prompts"
    assert a.parts is not None, "not known prompt by prompt"
    assert b.parts is not None, "not known prompt by prompt"
    known = [estimate.sampling_variance for estimate in (a, b) if estimate.sampling_variance is not None]
    found = difference_of_parts(a.parts, b.parts, seed=seed)
    return replace(found, value=b.value - a.value, sampling_variance=sum(known) if known else None)


def difference_of_parts(a: PromptParts, b: PromptParts, *, seed: int) -> Difference:
    """The same for some of the prompts of two estimates, see :meth:`PromptParts.of`."""
    swapped = arrangements(len(a.parts), seed, a.effort)
    first, second = a.exchanged(a.parts, b.parts, swapped)
    arranged = second - first
    return Difference(float(arranged[0]), len(a.parts), arranged, swapped.sum(axis=1))


def step_down(differences: Sequence[Difference]) -> list[float | None]:
    """p values of several differences, corrected so that 5 % is the probability of *any* false positive.

    Westfall & Young's step-down maxT (1993, Resampling-Based Multiple Testing, algorithm 4.1): the p value of a
    difference is the share of arrangements in which the largest of this difference and of all that are smaller is at
    least as large, and no smaller difference may have a lower one. The differences are of one metric, and are compared
    in its unit, so a large one is not held against the chance that a small one is extreme for its size. With n prompts,
    p can be 2¹⁻ⁿ for any number of differences; Holm's cannot be below 2¹⁻ⁿ times that number. The price: an erratic
    difference that is not significant hides smaller ones that are regular.

    All must be in the same arrangements, from the same reference. None, for one prompt, stays None.
    """
    if any(one.prompts < 2 for one in differences):
        return [None] * len(differences)
    corrected: list[float | None] = [None] * len(differences)
    order = sorted(range(len(differences)), key=lambda index: -abs(float(differences[index].arranged[0])))
    largest = np.zeros(len(differences[0].arranged) if differences else 0)
    for index in reversed(order):
        largest = np.maximum(largest, np.abs(differences[index].arranged))
        corrected[index] = float(np.mean(largest >= abs(differences[index].arranged[0])))
    highest = 0.0
    for index in order:
        highest = max(highest, corrected[index] or 0.0)
        corrected[index] = highest
    return corrected


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """p values corrected for their number (Holm 1979), so that 5 % is the probability of *any* false positive.

    The i-th smallest of m is multiplied by m−i+1, and none may be below a smaller one's. None stays None and does not
    count.
    """
    known = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, index) in enumerate(known):
        largest = max(largest, min(1.0, p * (len(known) - rank)))
        corrected[index] = largest
    return corrected


def prompts_that_can_differ() -> int:
    """The smallest number of prompts at which p can be below 5 %: 6."""
    return next(prompts for prompts in itertools.count(1) if smallest_p(prompts) < 1 - COVERAGE)


def prompts_needed(difference: Difference, width: float) -> int | None:
    """Number of prompts, drawn like these, that would make the 95 % interval of a difference ``width`` wide.

    n·(2 · 1.96 · error / width)², since the standard error falls with √n and the interval of many prompts is ±1.96
    times that; at least 6, below which an interval is unbounded. None if there is no variance to extrapolate from:
    fewer than two prompts, or all differences equal.
    """
    error = difference.error()
    if error == 0 or not width > 0:
        return None
    least = prompts_that_can_differ()
    return max(least, math.ceil(difference.prompts * (2 * NORMAL_QUANTILE * error / width) ** 2))


def samples_needed(difference: Difference, width: float, samples: float) -> int | None:
    """Number of samples of each of the same prompts that would do so, given ``samples`` of each now.

    More samples reduce only the ``sampling_variance`` part of the squared error. None if that is unknown, or if the
    rest alone is too large, so that only more prompts can help.
    """
    if difference.sampling_variance is None or not width > 0:
        return None
    wanted = (width / 2 / NORMAL_QUANTILE) ** 2
    variance = min(difference.sampling_variance, difference.error() ** 2)
    rest = difference.error() ** 2 - variance
    return max(1, math.ceil(samples * variance / (wanted - rest))) if wanted > rest else None
