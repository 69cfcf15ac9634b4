"""Paired differences between estimates: intervals, p values corrected for multiple comparisons, and sample sizes."""

import math
from collections.abc import Sequence

from textgen.evaluation.uncertainty.bootstrap import NORMAL_QUANTILE, Interval
from textgen.evaluation.uncertainty.estimate import Estimate
from textgen.evaluation.uncertainty.student_t import two_sided_p, two_sided_quantile


def difference(a: Estimate, b: Estimate) -> Estimate:
    """The paired estimate of b − a; both must be over the same prompts in the same order, with the same seed."""
    assert a.prompts == b.prompts, "a paired difference takes the same prompts"
    known = [estimate.sampling_variance for estimate in (a, b) if estimate.sampling_variance is not None]
    variance = sum(known) if known else None
    value = b.value - a.value
    if a.replicates is not None and b.replicates is not None:
        return Estimate(value, a.prompts, replicates=b.replicates - a.replicates, sampling_variance=variance)
    assert a.left_out is not None, "one is bootstrapped, the other is not"
    assert b.left_out is not None, "one is bootstrapped, the other is not"
    return Estimate(value, a.prompts, left_out=b.left_out - a.left_out, sampling_variance=variance)


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

    Samples reduce only the part of the squared error that is ``sampling_variance``. None if that is not known, or if
    the rest alone is too large, so that only more prompts can help.
    """
    if estimate.sampling_variance is None or not width > 0:
        return None
    wanted = (width / 2 / NORMAL_QUANTILE) ** 2
    variance = min(estimate.sampling_variance, estimate.error() ** 2)
    rest = estimate.error() ** 2 - variance
    return max(1, math.ceil(samples * variance / (wanted - rest))) if wanted > rest else None
