"""The decoding strategy closest to the human text: chosen on one half of the prompts, confirmed on the other.

The *distance* of a strategy from the human text is the mean of |value − human value| / scale over :data:`METRICS`, each
a property of its own. A metric's scale is the mean over strategies of the standard deviation of the difference between
a strategy and the human text on one prompt, √n times its standard error; so a distance of 1 is one such standard
deviation in every metric. This is the mean of standardized differences (Glass 1976 for one metric), with a
scale that all strategies share: with one of its own, a strategy would come closer by being erratic. The combination is
ours.

Whatever was chosen as the best of many looks better than it is on the prompts that chose it. It is therefore
*confirmed* only if, on the prompts that had no part in the choice and with the scales of the first half,

1. it is closer to the human text than the baseline (greedy decoding, which is what ``generate`` does by default):
   p < 0.05 in the one-sided label-swap test of the two distances; and
2. no other strategy is closer than it: p ≥ 0.05 for each, with Holm's correction for their number.

The second condition does not mean that it is the best: there may be several that these prompts do not distinguish.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from textgen.evaluation.decoding.generation_config import generation_settings
from textgen.evaluation.decoding.strategies import HUMAN, Strategy
from textgen.evaluation.uncertainty.bootstrap import COVERAGE, as_json
from textgen.evaluation.uncertainty.estimate import Estimate, PromptParts
from textgen.evaluation.uncertainty.label_swap import SETS, Difference, arrangements, smallest_p
from textgen.evaluation.uncertainty.significance import difference_of_parts, holm

METRICS = ("diversity", "distinct_2", "self_bleu_4", "zipf", "nll", "judge_bits_per_byte", "length")
"""The metrics of the distance, as far as they were measured. Other repetition metrics are nearly functions of these."""

FEWEST_TO_CHOOSE = 4
"""With fewer prompts, a half has no two prompts, and there is nothing to scale the differences by."""

Parts = Mapping[str, PromptParts]
"""Metric → what it is computed from, of one strategy."""


def recommend(
    strategies: Sequence[Strategy],
    estimates: Mapping[str, Mapping[str, Estimate]],
    prompt_ids: Sequence[str],
    *,
    baseline: str | None,
    seed: int,
) -> dict[str, Any]:
    """The recommended strategy with its evidence: an entry of ``recommendation.json``.

    Keys: ``strategy`` (None if nothing could be chosen), and whether it is ``confirmed``, with the ``reason`` if not;
    ``prompts``, the number that chose and the number that confirm. If there is a strategy, also its ``family`` and
    ``settings``; the ``baseline``; ``scales`` of the metrics; ``distances`` of each strategy on the two halves;
    ``closer_by``, the distance of the baseline minus that of the strategy on the second half, with
    ``closer_by_interval`` and the one-sided ``closer_by_p``; ``rival``, the other strategy with the smallest p value
    against it there, and this ``rival_p``, corrected; and ``generation_config``, the arguments of transformers'
    ``generate`` that decode in this way, or None.

    Args:
        strategies: the strategies compared.
        estimates: strategy (or human) → metric → estimate, all over the same prompts in the same order.
        prompt_ids: the id of each prompt, in that order.
        baseline: the strategy that a recommendation must be closer than.
        seed: decides which half a prompt is in, and which arrangements are drawn.
    """
    first, second = halves(prompt_ids, seed)
    entry: dict[str, Any] = {"strategy": None, "confirmed": False, "prompts": [len(first), len(second)]}
    if baseline is None:
        return entry | {"reason": "only one strategy was compared"}
    if len(prompt_ids) < FEWEST_TO_CHOOSE:
        return entry | {"reason": _too_few(len(prompt_ids))}
    measured: dict[str, Parts] = {
        name: {metric: parts for metric in METRICS if metric in found and (parts := found[metric].parts) is not None}
        for name, found in estimates.items()
    }
    choosing, confirming = ({name: _of(parts, half) for name, parts in measured.items()} for half in (first, second))
    scales = _scales(choosing, seed=seed)
    names = [strategy.name for strategy in strategies]
    distances = {
        name: [_distance(half[name], half[HUMAN.name], scales) for half in (choosing, confirming)] for name in names
    }
    chosen = min(strategies, key=lambda strategy: distances[strategy.name][0])  # the first of equals
    entry |= {
        "strategy": chosen.name,
        "family": chosen.family,
        "settings": dict(chosen.settings),
        "baseline": baseline,
        "scales": scales,
        "distances": distances,
        "generation_config": generation_settings(chosen),
    }
    entry |= _confirmation(chosen.name, baseline, names, confirming, scales, seed=seed)
    reason = _objection(entry)
    return entry | {"confirmed": reason is None, "reason": reason}


def halves(prompt_ids: Sequence[str], seed: int) -> tuple[list[int], list[int]]:
    """The numbers of the prompts that choose and of those that confirm, which are one more if the number is odd.

    By a hash of the seed and the prompt's id, so that a prompt's half does not depend on its place.
    """
    order = sorted(
        range(len(prompt_ids)), key=lambda number: hashlib.sha256(f"{seed}/{prompt_ids[number]}".encode()).digest()
    )
    middle = len(order) // 2
    return sorted(order[:middle]), sorted(order[middle:])


def _of(parts: Parts, prompts: Sequence[int]) -> Parts:
    return {metric: one.of(prompts) for metric, one in parts.items()}


def _scales(parts: Mapping[str, Parts], *, seed: int) -> dict[str, float]:
    """The scale of each metric; without those that do not vary."""
    human = parts[HUMAN.name]
    scales = {}
    for metric, reference in human.items():
        others = [found[metric] for name, found in parts.items() if name != HUMAN.name and metric in found]
        errors = [difference_of_parts(reference, other, seed=seed).error() for other in others]
        scale = float(np.mean(errors)) * len(reference.parts) ** 0.5
        if scale > 0:
            scales[metric] = scale
    return scales


def _distance(parts: Parts, human: Parts, scales: Mapping[str, float]) -> float:
    found = [abs(parts[metric].value() - human[metric].value()) / scale for metric, scale in scales.items()]
    return float(np.mean(found)) if found else 0.0


def _closer(b: Parts, a: Parts, human: Parts, scales: Mapping[str, float], *, seed: int) -> Difference:
    """By how much b is closer to the human text than a, in arrangements of the two; human texts stay."""
    swapped = arrangements(len(next(iter(human.values())).parts), seed, SETS)
    arranged = np.zeros(len(swapped))
    for metric, scale in scales.items():
        first, second = a[metric].exchanged(a[metric].parts, b[metric].parts, swapped)
        target = human[metric].value()
        arranged += (np.abs(first - target) - np.abs(second - target)) / scale / len(scales)
    return Difference(float(arranged[0]), swapped.shape[1], arranged, swapped.sum(axis=1))


def _one_sided_p(difference: Difference) -> float:
    """Share of arrangements with a difference at least as large in this direction.

    Those of one direction are the negated ones of the other, so it is half of the two-sided share.
    """
    p = difference.p_value()
    assert p is not None, "two prompts at least"
    return p / 2 if difference.arranged[0] > 0 else 1 - p / 2


def _confirmation(
    chosen: str,
    baseline: str,
    names: Sequence[str],
    parts: Mapping[str, Parts],
    scales: Mapping[str, float],
    *,
    seed: int,
) -> dict[str, Any]:
    human = parts[HUMAN.name]
    found: dict[str, Any] = {"closer_by": None, "closer_by_interval": None, "closer_by_p": None}
    if chosen != baseline:
        closer = _closer(parts[chosen], parts[baseline], human, scales, seed=seed)
        found["closer_by"], found["closer_by_interval"] = closer.value, as_json(closer.interval())
        found["closer_by_p"] = _one_sided_p(closer)
    others = [name for name in names if name != chosen]
    p = holm([_one_sided_p(_closer(parts[name], parts[chosen], human, scales, seed=seed)) for name in others])
    rival_p, rival = min(zip(p, others, strict=True), key=lambda pair: pair[0] or 0.0)
    return found | {"rival": rival, "rival_p": rival_p}


def _objection(entry: Mapping[str, Any]) -> str | None:
    """Why a recommendation is not confirmed; None if it is."""
    chose, confirm = entry["prompts"]
    level = 1 - COVERAGE
    if smallest_p(confirm) / 2 >= level:
        return _too_few(chose + confirm)
    if entry["strategy"] == entry["baseline"]:
        return f"no other strategy is closer than {entry['baseline']} on the {chose} prompts that choose"
    if entry["closer_by_p"] >= level:
        return (
            f"on the other {confirm} prompts it is not significantly closer than {entry['baseline']} "
            f"(p = {entry['closer_by_p']:.2g})"
        )
    if entry["rival_p"] < level:
        return f"on the other {confirm} prompts, {entry['rival']} is closer (p = {entry['rival_p']:.2g})"
    return None


def _too_few(prompts: int) -> str:
    least = 1
    while smallest_p(least - least // 2) / 2 >= 1 - COVERAGE:
        least += 1
    return f"{prompts} prompt{' is' if prompts == 1 else 's are'} too few (at least {least})"
