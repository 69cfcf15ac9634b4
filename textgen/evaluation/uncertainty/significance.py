"""Paired differences between estimates: intervals, p values corrected for multiple comparisons, and sample sizes."""

import math
from collections.abc import Sequence

from textgen.evaluation.uncertainty.bootstrap import NORMAL_QUANTILE, Interval
from textgen.evaluation.uncertainty.estimate import Estimate
from textgen.evaluation.uncertainty.student_t import two_sided_p, two_sided_quantile


def difference(a: Estimate, b: Estimate) -> Estimate:
    """The paired estimate of b − a; both must be over the same prompts in the same order, with the same seed."""
    assert a.prompts == b.prompts, "a paired difference needs the same prompts"
    known = [estimate.sampling_variance for estimate in (a, b) if estimate.sampling_variance is not None]
    variance = sum(known) if known else None
    value = b.value - a.value
    if a.replicates is not None and b.replicates is not None:
        return Estimate(value, a.prompts, replicates=b.replicates - a.replicates, sampling_variance=variance)
    assert a.left_out is not None, "one estimate is bootstrapped, the other is not"
    assert b.left_out is not None, "one estimate is bootstrapped, the other is not"
    return Estimate(value, a.prompts, left_out=b.left_out - a.left_out, sampling_variance=variance)


def student_interval(estimate: Estimate) -> Interval | None:
    """95 % interval of a difference: value ± t·(standard error), with n−1 degrees of freedom for n prompts.

    Not the bootstrap percentiles, which are too close together for few prompts: with 16, they cover about 92 %. None
    for fewer than two prompts, which say nothing about others.
    """
    if estimate.prompts < 2:
        return None
    reach = two_sided_quantile(estimate.prompts - 1) * estimate.error()
    return estimate.value - reach, estimate.value + reach


def p_value(estimate: Estimate) -> float | None:
    """Probability of a difference at least this large if the true one were 0; None for fewer than two prompts.

    Two-sided, of value / standard error under Student's t with n−1 degrees of freedom, so it is below 0.05 exactly
    where ``student_interval`` excludes 0, with one exception: it is never below 2^(1−n), the smallest p value of an
    exact sign test on n paired differences. So five prompts or fewer never give p < 0.05.
    """
    if estimate.prompts < 2:
        return None
    if estimate.value == 0:
        return 1.0
    error = estimate.error()
    p = two_sided_p(estimate.value / error, estimate.prompts - 1) if error > 0 else 0.0
    return max(p, 2.0 ** (1 - estimate.prompts))


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


def prompts_needed(estimate: Estimate, width: float) -> int | None:
    """Number of prompts, drawn like these, that would make the 95 % interval of a difference ``width`` wide.

    n·(current width / width)², at least 2, since the standard error falls with √n. None if there is no variance to
    extrapolate from: fewer than two prompts, or all differences equal.
    """
    error = estimate.error()
    if error == 0 or not width > 0:
        return None
    return max(2, math.ceil(estimate.prompts * (2 * NORMAL_QUANTILE * error / width) ** 2))


def samples_needed(estimate: Estimate, width: float, samples: float) -> int | None:
    """Number of samples of each of the same prompts that would do so, given ``samples`` of each now.

    More samples reduce only the ``sampling_variance`` part of the squared error. None if that is unknown, or if the
    rest alone is too large, so that only more prompts can help.
    """
    if estimate.sampling_variance is None or not width > 0:
        return None
    wanted = (width / 2 / NORMAL_QUANTILE) ** 2
    variance = min(estimate.sampling_variance, estimate.error() ** 2)
    rest = estimate.error() ** 2 - variance
    return max(1, math.ceil(samples * variance / (wanted - rest))) if wanted > rest else None
