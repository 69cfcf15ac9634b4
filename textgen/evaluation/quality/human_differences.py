"""Paired differences of each strategy from the human text and from a baseline strategy.

They add these keys to a row of ``decoding.json``, for each metric that both rows have:

``<metric>_minus_human``, ``<metric>_minus_human_interval``
    The difference, and its 95 % interval: the shifts that the label-swap test does not reject (``label_swap.py``). None
    for five prompts or fewer, where it rejects nothing. The interval is not corrected for multiple comparisons.
``<metric>_minus_human_p``
    The p value of the label-swap test, corrected for all strategies of the table (``significance.step_down``). If it is
    0.05 or more, the two are *not distinguishable* on these prompts, which does not mean that they are equal.
``smallest_p``
    The smallest p value that the number of prompts permits. If it is 0.05 or more, nothing can be distinguished;
    ``least_prompts`` is the number of prompts from which on something can.
``<metric>_minus_baseline``, ``…_interval``, ``…_p``
    The same against the strategy that the row names as its ``baseline``; the row of the baseline itself has none.
``<metric>_prompts_needed``, ``<metric>_samples_needed``
    The number of prompts, or of samples of each of the same prompts, for which the interval of the difference from
    human is ``interval_width`` times the human value wide; None if it is unknown or no number is enough.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from textgen.evaluation.decoding.strategies import HUMAN
from textgen.evaluation.uncertainty.bootstrap import as_json
from textgen.evaluation.uncertainty.estimate import Estimate
from textgen.evaluation.uncertainty.label_swap import Difference, smallest_p
from textgen.evaluation.uncertainty.significance import (
    difference,
    prompts_needed,
    prompts_that_can_differ,
    samples_needed,
    step_down,
)


def baseline_of(strategies: Sequence[str]) -> str | None:
    """Name of the baseline strategy: greedy, or else the first; None for fewer than two strategies."""
    if len(strategies) < 2:
        return None
    return "greedy" if "greedy" in strategies else strategies[0]


def difference_columns(
    estimates: Mapping[str, Mapping[str, Estimate]],
    *,
    interval_width: float,
    samples_per_prompt: Mapping[str, float],
    seed: int,
) -> dict[str, dict[str, Any]]:
    """The keys above and their values, for each strategy.

    Args:
        estimates: strategy (or human) → metric → estimate, all over the same prompts in the same order.
        interval_width: target width of the interval of a difference from human, as a share of the human value.
        samples_per_prompt: strategy → number of samples per prompt.
        seed: determines the arrangements of the test that are drawn.
    """
    strategies = [name for name in estimates if name != HUMAN.name]
    baseline = baseline_of(strategies)
    common: dict[str, Any] = {"interval_width": interval_width}
    if HUMAN.name in estimates:
        prompts = max((estimate.prompts for estimate in estimates[HUMAN.name].values()), default=0)
        common["smallest_p"], common["least_prompts"] = smallest_p(prompts), prompts_that_can_differ()
    columns: dict[str, dict[str, Any]] = {
        name: {"baseline": None if name == baseline else baseline, **common} for name in strategies
    }
    for other, label in ((HUMAN.name, "human"), (baseline, "baseline")):
        if other is None or other not in estimates:
            continue
        for metric, reference in estimates[other].items():
            compared = [name for name in strategies if name != other and metric in estimates[name]]
            paired = [difference(reference, estimates[name][metric], seed=seed) for name in compared]
            corrected = step_down(paired)
            for name, one, p in zip(compared, paired, corrected, strict=True):
                columns[name] |= _columns(f"{metric}_minus_{label}", one, p)
                if label == "human":
                    width = interval_width * abs(reference.value)
                    columns[name][f"{metric}_prompts_needed"] = prompts_needed(one, width)
                    columns[name][f"{metric}_samples_needed"] = samples_needed(one, width, samples_per_prompt[name])
    return columns


def _columns(key: str, paired: Difference, p: float | None) -> dict[str, Any]:
    return {key: paired.value, f"{key}_interval": as_json(paired.interval()), f"{key}_p": p}
