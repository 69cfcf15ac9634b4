"""Paired differences, Holm's correction and sample sizes: known cases and simulations."""

import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.random import default_rng

from textgen.evaluation.uncertainty.estimate import Estimate, estimate_of_mean
from textgen.evaluation.uncertainty.label_swap import Difference
from textgen.evaluation.uncertainty.significance import (
    difference,
    difference_of_parts,
    holm,
    prompts_needed,
    prompts_that_can_differ,
    samples_needed,
    step_down,
)


def mean_of(values: np.ndarray, samples: int = 1) -> Estimate:
    return estimate_of_mean(values, clusters=np.repeat(np.arange(len(values) // samples), samples).tolist(), seed=0)


def difference_of(d: np.ndarray) -> Difference:
    return difference(mean_of(np.zeros(len(d))), mean_of(d), seed=0)


def test_a_difference_is_paired():
    random = default_rng(1)
    hard = random.normal(0, 10, size=30)  # what makes a prompt hard for both
    a, b = mean_of(hard + random.normal(0, 0.1, size=30)), mean_of(hard + 1 + random.normal(0, 0.1, size=30))
    paired = difference(a, b, seed=0)
    assert paired.value == b.value - a.value == pytest.approx(1, abs=0.1)
    low, high = paired.interval()
    assert 0.8 < low < 1 < high < 1.2
    assert a.interval()[0] < b.value < a.interval()[1]  # separate intervals could not distinguish them


def test_all_samples_of_a_prompt_change_sides_together():
    random = default_rng(2)
    many, one = random.normal(size=(8, 3)), random.normal(0.5, 1, size=8)
    found = difference(mean_of(many.ravel(), samples=3), mean_of(one), seed=0)
    assert np.array_equal(found.arranged, difference(mean_of(many.mean(axis=1)), mean_of(one), seed=0).arranged)
    assert found.sampling_variance == pytest.approx(many.var(axis=1, ddof=1).mean() / 24)


def test_some_of_the_prompts_are_compared_like_all_of_them():
    values = default_rng(3).normal(size=(2, 12))
    a, b = (mean_of(one) for one in values)
    chosen = [1, 4, 5, 7, 8, 10, 11]
    found = difference_of_parts(a.parts.of(chosen), b.parts.of(chosen), seed=0)
    expected = difference(*(mean_of(one[chosen]) for one in values), seed=0)
    assert (found.value, found.p_value()) == pytest.approx((expected.value, expected.p_value()))
    assert a.parts.of(chosen).value() == pytest.approx(values[0][chosen].mean())


def test_estimates_that_are_not_known_prompt_by_prompt_or_of_other_prompts_are_not_compared():
    with pytest.raises(AssertionError, match="prompt by prompt"):
        difference(replace(mean_of(np.ones(5)), parts=None), mean_of(np.ones(5)), seed=0)
    with pytest.raises(AssertionError, match="the same prompts"):
        difference(mean_of(np.ones(5)), mean_of(np.ones(6)), seed=0)


def test_holm_by_hand():
    # sorted 0.01, 0.02, 0.03, 0.8: times 4, 3, 2, 1, and never below the previous one
    assert holm([0.02, 0.8, None, 0.01, 0.03]) == pytest.approx([0.06, 0.8, None, 0.04, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([None]) == [None]
    assert holm([]) == []


def family(random: np.random.Generator, prompts: int, draw: str = "normal", strategies: int = 10) -> list[Difference]:
    """Differences of strategies from one human text, all of one distribution."""
    human = mean_of(getattr(random, draw)(size=prompts))
    return [difference(human, mean_of(getattr(random, draw)(size=prompts)), seed=0) for _ in range(strategies)]


def test_step_down_by_its_definition():
    found = family(default_rng(4), 7, strategies=4)
    sizes = np.abs([one.arranged for one in found])
    order = np.argsort(-sizes[:, 0])
    expected, highest = [0.0] * 4, 0.0
    for place, index in enumerate(order):
        largest = sizes[order[place:]].max(axis=0)
        highest = max(highest, float(np.mean(largest >= sizes[index, 0] - 1e-12)))
        expected[index] = highest
    assert step_down(found) == pytest.approx(expected)
    assert step_down(found[:1]) == [found[0].p_value()]


def test_two_large_differences_among_ten_are_significant_with_eight_prompts():
    """Greedy and beam search repeat themselves on every prompt; eight others differ from human by noise."""
    random = default_rng(6)
    found = [difference_of(random.normal(-0.7, 0.1, size=8)) for _ in range(2)]
    found += [difference_of(random.normal(0, 0.03, size=8)) for _ in range(8)]
    corrected = step_down(found)
    assert corrected[:2] == [2.0**-7] * 2
    assert min(corrected[2:]) > 0.05
    assert min(holm([one.p_value() for one in found])) > 0.05, "Holm's p values cannot be significant"


def test_a_larger_difference_that_is_not_significant_hides_smaller_ones():
    erratic, regular = np.array([9.0, -5, 4, -3, 6, -8, 7, -2]), np.full(8, 0.2)
    assert step_down([difference_of(regular)]) == [2.0**-7]
    both = step_down([difference_of(regular), difference_of(erratic)])
    assert both[0] == both[1] == difference_of(erratic).p_value()


def test_one_prompt_has_no_corrected_p_value():
    assert step_down([difference_of(np.ones(1)), difference_of(np.zeros(1))]) == [None, None]
    assert step_down([]) == []


@pytest.mark.parametrize("draw", ["normal", "exponential"])
def test_false_positives_of_a_family_are_limited_to_five_percent(draw):
    random, trials, positives, uncorrected = default_rng(5), 300, 0, 0
    for _ in range(trials):
        found = family(random, 10, draw)
        positives += any(value < 0.05 for value in step_down(found))
        uncorrected += any(one.p_value() < 0.05 for one in found)
    assert positives / trials < 0.05 + 2.6 * math.sqrt(0.05 * 0.95 / trials)
    assert uncorrected / trials > 0.15


def test_the_fewest_prompts_that_can_differ():
    assert prompts_that_can_differ() == 6
    assert step_down([difference_of(np.ones(6))]) == [2.0**-5]


def test_the_suggested_number_of_prompts_gives_the_wanted_width():
    random = default_rng(6)
    few = difference_of(random.normal(0, 1, size=50))
    needed = prompts_needed(few, width=0.2)
    assert needed == pytest.approx((2 * 1.96 / 0.2) ** 2, rel=0.4)
    low, high = difference_of(random.normal(0, 1, size=needed)).interval()
    assert high - low == pytest.approx(0.2, rel=0.25)
    assert prompts_needed(few, width=100) == 6, "the fewest prompts whose interval is bounded"
    assert prompts_needed(difference_of(np.ones(5)), width=0.2) is None
    assert prompts_needed(difference_of(np.ones(1)), width=0.2) is None
    assert prompts_needed(few, width=0.0) is None


def test_samples_needed_by_hand():
    # squared standard error 5, of which 4 come from sampling with 3 samples: 12 samples leave 1 + 4·3/12 = 2
    d = np.tile([1.0, -1.0], 8) * math.sqrt(5 * 15)
    estimate = replace(difference_of(d), sampling_variance=4.0)
    assert estimate.error() == pytest.approx(math.sqrt(5))
    assert samples_needed(estimate, 2 * 1.959964 * math.sqrt(2.001), samples=3) == 12
    assert samples_needed(estimate, 2 * 1.959964 * math.sqrt(0.999), samples=3) is None  # too small for prompts alone
    assert samples_needed(replace(estimate, sampling_variance=None), 9.0, samples=3) is None
    assert samples_needed(estimate, 0.0, samples=3) is None
