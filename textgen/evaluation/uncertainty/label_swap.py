"""The paired label-swap test of two sets of texts over the same prompts, and the interval that agrees with it.

The null hypothesis: for a random prompt, the two texts can be exchanged: (a, b) has the distribution of (b, a). Then
every *arrangement*, in which the texts of some prompts have changed sides, was as likely as the one observed, and
the p value is the share of arrangements with a difference at least as large (Fisher 1935; Good 2005, Permutation,
Parametric and Bootstrap Tests of Hypotheses, §3). Nothing else is assumed: the test is exact for any statistic, also
for one of all texts together, which is computed anew in every arrangement.

With several samples of a prompt, all of them change sides together, since they are not independent of each other. The
hypothesis is then that whole prompts can be exchanged. If one side has more samples than the other, that is exact for
differences that are symmetric about 0, and otherwise holds for many prompts, as does a test of equal means for texts
that differ in other ways.

**The interval** is the test inverted: the shifts δ that it does not reject. If each prompt contributed δ to the
difference T, the difference without that would be T − δ, and that of an arrangement in which k of n prompts are swapped
would be T(S) − δ·(1 − 2k/n). For a mean of paired differences this is what subtracting δ from each of them gives, and
the ends are order statistics of the means of subsets (Hartigan 1969, JASA 64:328; Tritchler 1984, JASA 79:385). For
other statistics it is an approximation to first order, but at δ = 0 it is the test itself: the interval excludes 0
exactly where p is below 5 %.
"""

import functools
import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from textgen.evaluation.uncertainty.bootstrap import COVERAGE, UNBOUNDED, Interval

_ROUNDING = 1e-10  # differences that agree up to this share of the largest are equal


class Effort(NamedTuple):
    """How many arrangements are computed: all 2ⁿ of up to ``prompts`` prompts; of more, ``draws`` of them."""

    prompts: int
    draws: int


SUMS = Effort(16, 10_000)
"""For functions of sums over prompts, which take milliseconds."""

SETS = Effort(12, 2_000)
"""For figures of a set of texts, which take a hundred times as long. The test is exact with any number; with fewer,
another seed gives another p value: at 0.05, ±0.005 instead of ±0.002."""


@functools.lru_cache(maxsize=8)
def arrangements(prompts: int, seed: int, effort: Effort = SUMS) -> np.ndarray:
    """Which prompts are swapped in each arrangement, bool [arrangements, prompts]; none are in the first, the observed.

    Swapping the other prompts instead negates a difference, so all 2ⁿ arrangements are the 2ⁿ⁻¹ that leave the first
    prompt as it is. Otherwise, the drawn arrangements follow the observed one, which counts too: without it, a p value
    could be 0 (Phipson & Smyth 2010, Stat. Appl. Genet. Mol. Biol. 9:39).

    They are drawn by the seed and the number of prompts alone. So a p value does not depend on the other strategies and
    metrics of a table, and is the same on every process.
    """
    if prompts <= effort.prompts:
        others = max(0, prompts - 1)
        bits = np.arange(2**others)[:, None] >> np.arange(others) & 1
        return np.pad(bits.astype(bool), ((0, 0), (prompts - others, 0)))
    random = np.random.default_rng([seed, prompts])
    drawn = random.integers(0, 2, size=(effort.draws, prompts), dtype=np.uint8).astype(bool)
    return np.concatenate([np.zeros((1, prompts), dtype=bool), drawn])


@dataclass(frozen=True)
class Difference:
    """A paired difference, observed and in other arrangements.

    Attributes:
        value: the difference.
        prompts: the number of prompts.
        arranged: the difference in each arrangement, the observed one first, [arrangements].
        swapped: the number of prompts that are swapped in each, [arrangements].
        sampling_variance: the part of the squared standard error that more samples of the same prompts would reduce;
            None if unknown.
    """

    value: float
    prompts: int
    arranged: np.ndarray
    swapped: np.ndarray
    sampling_variance: float | None = None

    def __post_init__(self) -> None:
        # The same sum in another order has other last bits, and must not count as another difference.
        observed, arranged = self.arranged[0], self.arranged
        tolerance = _ROUNDING * float(np.abs(arranged).max(initial=0.0))
        equal = np.abs(np.abs(arranged) - abs(observed)) <= tolerance
        object.__setattr__(self, "arranged", np.where(equal, np.sign(arranged) * abs(observed), arranged))

    def p_value(self) -> float | None:
        """Share of the arrangements with a difference at least as large, in either direction; None for one prompt.

        With n prompts it is never below 2¹⁻ⁿ: five prompts or fewer never give p < 0.05.
        """
        if self.prompts < 2:
            return None
        return float(np.mean(np.abs(self.arranged) >= abs(self.arranged[0])))

    def interval(self) -> Interval:
        """95 % interval: the shifts that the test does not reject. Unbounded for five prompts or fewer.

        Of the arrangements in which the prompts S are swapped, or all but S, each rejects the shifts on one side of
        r(S) = (T − T(S)) · n / 2|S|: see the head of this module.
        """
        if self.prompts < 2:
            return UNBOUNDED
        observed, n = self.arranged[0], self.prompts
        ends = []
        for arranged, swapped in ((self.arranged, self.swapped), (-self.arranged, n - self.swapped)):
            with np.errstate(divide="ignore", invalid="ignore"):
                ends.append((observed - arranged) * n / (2 * swapped))
        rank = math.ceil((1 - COVERAGE) * len(self.arranged) - 1e-9)  # as many arrangements are needed for p ≥ 5 %
        nothing = [self.swapped == 0, self.swapped == n]  # swapping no prompt never rejects
        low = np.minimum(*(np.where(none, -np.inf, end) for none, end in zip(nothing, ends, strict=True)))
        high = np.maximum(*(np.where(none, np.inf, end) for none, end in zip(nothing, ends, strict=True)))
        return float(np.partition(low, rank - 1)[rank - 1]), float(-np.partition(-high, rank - 1)[rank - 1])

    def error(self) -> float:
        """Standard error: the spread over arrangements without the difference itself, times √(n/(n−1)).

        For a mean of paired differences, the usual one; 0 for one prompt.
        """
        if self.prompts < 2:
            return 0.0
        centered = self.arranged - self.arranged[0] * (1 - 2 * self.swapped / self.prompts)
        error = float(np.sqrt(np.square(centered).mean() * self.prompts / (self.prompts - 1)))
        return error if error > _ROUNDING * float(np.abs(self.arranged).max()) else 0.0


def smallest_p(prompts: int) -> float:
    """The smallest p value that the test of a function of sums can give: 2¹⁻ⁿ, or 1 / (1 + draws)."""
    return 1.0 / (2 ** max(0, prompts - 1) if prompts <= SUMS.prompts else SUMS.draws + 1)
