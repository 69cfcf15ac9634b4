"""Numbers and results in words: the same in the report, the model card and on the console."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from textgen.reporting.results import RunFiles

MISSING = "–"


@dataclass(frozen=True)
class Metric:
    """One column of the decoding table."""

    key: str
    title: str
    digits: int
    reading: str
    """How to read the column, in one sentence."""
    optional: bool = False
    """Left out where no row has a value."""


# What is shown; decoding.json has the rest: rep-2, rep-3, seq-rep-4, distinct-1, distinct-3 and SimCTG's diversity.
METRICS = (
    Metric(
        "diversity", "diversity", 3, "The share of n-grams that are new, multiplied over n = 2, 3, 4: low is a loop."
    ),
    Metric("rep_4", "rep-4", 3, "The share of runs of four words that already occurred in the same continuation."),
    Metric("distinct_2", "distinct-2", 3, "Different word pairs over all word pairs; it falls as texts get longer."),
    Metric(
        "self_bleu_4", "self-BLEU-4", 3, "How much a continuation resembles those of other prompts: high is one tune."
    ),
    Metric("zipf", "Zipf", 3, "How fast word frequency falls with rank: high is a few words over and over."),
    Metric("nll", "nll", 3, "Nats per token under the model itself: far below human is bland, far above is noise."),
    Metric(
        "own_nll",
        "own nll",
        3,
        "Nats per token under the distribution that the strategy really drew from; people drew from none.",
        optional=True,
    ),
    Metric(
        "judge_bits_per_byte",
        "judge",
        3,
        "Bits per byte under the second model (--judge), which did not write the texts: human is the target here too.",
        optional=True,
    ),
    Metric(
        "mauve", "MAUVE", 3, "How near the texts are to the human ones as a set: 1 is alike, 0 is apart.", optional=True
    ),
    Metric("length", "length", 1, "Tokens per continuation; compare the others only where this is alike."),
    Metric("end_of_text_rate", "end rate", 3, "The share of continuations that the model ended by itself."),
    Metric("tokens_per_second", "tokens/s", 0, "How fast it decoded here; people have no value, so nothing is marked."),
)
SIGNIFICANCE = 0.05
"""From which p on, corrected for how many comparisons there are, two are said to be not distinguishable."""


def shown_metrics(decoding: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Metric]:
    """The columns of the decoding table: those that are not optional, and those that some row has a value for."""
    rows = [row for of_moment in decoding.values() for row in of_moment or []]
    return [
        metric
        for metric in METRICS
        if not metric.optional or any(finite(row.get(metric.key)) is not None for row in rows)
    ]


def finite(value: Any) -> float | None:
    """The value if it is a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value


def number(value: Any, digits: int = 2) -> str:
    """A number as people read it: ``1,234.50``, ``−0.51``, or a dash for one that is missing or not finite.

    From a million millions on, of which nobody reads the digits: ``3.46e+33``.
    """
    if finite(value) is None:
        return MISSING
    text = f"{value:,.{digits}f}" if abs(value) < 1e12 else f"{value:.2e}"
    if text.startswith("-"):
        text = text[1:] if not text.strip("-0.,") else "−" + text[1:]  # no minus before a rounded zero
    return text


def count(value: Any) -> str:
    """A whole number with its thousands apart, or a dash."""
    return number(value, 0)


def bounds(interval: Any) -> tuple[float, float] | None:
    """The two ends of an interval, or None unless both are finite numbers."""
    if not isinstance(interval, Sequence) or isinstance(interval, str) or len(interval) != 2:
        return None
    low, high = finite(interval[0]), finite(interval[1])
    return None if low is None or high is None else (low, high)


def interval_text(interval: Any, digits: int = 2) -> str:
    """``0.91–0.95``, or ``−0.55 to −0.47`` where a dash could be taken for a sign; nothing if it is missing."""
    ends = bounds(interval)
    if ends is None:
        return ""
    low, high = (number(end, digits) for end in ends)
    return f"{low} to {high}" if "−" in low + high else f"{low}–{high}"


def visible(text: Any) -> str:
    """Text with its control characters made visible, so that nothing that a model wrote is lost or obeyed.

    Tabs and newlines stay. NUL and the other controls become their Unicode pictures (``␀``); what has no picture,
    half surrogate pairs and the marks that turn the direction of writing become ``\N{REPLACEMENT CHARACTER}``.
    """
    text = re.sub(r"[\x00-\x08\x0b-\x1f]", lambda match: chr(0x2400 + ord(match[0])), str(text))
    return re.sub("[\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069\ufffe\uffff]", "\N{REPLACEMENT CHARACTER}", text)


def result(run: RunFiles) -> str:
    """The result of a run in one sentence, which claims no more than the interval allows."""
    first, second = compared(run.perplexity)
    if second is None:
        return "No perplexity was measured in this run."
    documents = _documents(run.perplexity[second])
    if first is None:
        value = run.perplexity[second]
        span = interval_text(value.get("bits_per_byte_interval"), 3)
        span = f"95 % interval {span}, " if span else ""
        subject = "After fine-tuning, the model has" if second == "after" else f"{run.model} has"
        return f"{subject} {number(value.get('bits_per_byte'), 3)} bits per byte ({span}{documents})."
    return _comparison(run, first, second, documents)


def _comparison(run: RunFiles, first: str, second: str, documents: str) -> str:
    old, new = (finite(run.perplexity[moment].get("bits_per_byte")) for moment in (first, second))
    if old is None or new is None:
        return "Bits per byte are missing from this run, so it says nothing about whether the model got better."
    stated = run.perplexity.get("difference", {})
    difference = finite(stated.get("bits_per_byte"))
    difference = new - old if difference is None else difference
    interval = bounds(stated.get("bits_per_byte_interval"))
    digits = 2 if abs(difference) >= 0.1 else 3 if abs(difference) >= 0.01 else 4
    span = f"95 % interval {interval_text(interval, digits)}, " if interval else "no interval was computed, "
    sign = "+" if difference > 0 else ""
    evidence = f"({sign}{number(difference, digits)}, {span}{documents})"
    values = number(old, digits), number(new, digits)
    unclear = interval is not None and interval[0] <= 0 <= interval[1]
    if first == "baseline":
        values_text = f"{run.model} has {values[1]} bits per byte and the baseline {values[0]} {evidence}"
        return values_text + (": the two cannot be told apart on this data." if unclear else ".")
    if unclear:
        return (
            f"Fine-tuning took bits per byte from {values[0]} to {values[1]} {evidence}: "
            "a change that cannot be told apart from none on this data."
        )
    verb = "lowered" if difference < 0 else "raised" if difference > 0 else "left"
    if verb == "left":
        return f"Fine-tuning left bits per byte at {values[1]} {evidence}."
    return f"Fine-tuning {verb} bits per byte from {values[0]} to {values[1]} {evidence}."


def compared(by_moment: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """The two moments that a result is about: the earlier or baseline (None if not measured), and the later."""
    for first, second in (("before", "after"), ("baseline", "model")):
        if second in by_moment:
            return (first if first in by_moment else None), second
    left = next((moment for moment in ("before", "baseline") if moment in by_moment), None)
    return None, left


def over_the_floor(perplexity: Mapping[str, Any]) -> str:
    """How near the models came to the best there can be, where the documents' source is known; empty elsewhere."""
    stated = {moment: perplexity[moment] for moment in compared(perplexity) if moment}
    source = next((entry["source"] for entry in stated.values() if entry.get("source")), None)
    if not source:
        return ""
    parts = []
    for moment, entry in stated.items():
        ends = bounds(entry.get("excess_bits_per_byte_interval"))
        span = f" (95 % interval {interval_text(ends, 3)})" if ends else ""
        unclear = ", not distinguishable from none" if ends and ends[0] <= 0 <= ends[1] else ""
        parts.append(f"{moment} {number(entry.get('excess_bits_per_byte'), 3)}{span}{unclear}")
    return (
        f"The documents come from a source of known entropy, {source['name']}. They cost the source itself "
        f"{number(source['bits_per_byte'], 3)} bits per byte (95 % interval "
        f"{interval_text(source.get('bits_per_byte_interval'), 3)}; its entropy rate is "
        f"{number(source['entropy_rate'], 3)}), less than which no model can expect. Excess over that floor: "
        f"{'; '.join(parts)}."
    )


def closest_to_human(rows: Sequence[Mapping[str, Any]], metric: str) -> set[str]:
    """The strategies whose value is nearest to the human one; none without a human value, or if all are as near."""
    values = {row["strategy"]: finite(row.get(metric)) for row in rows}
    target = values.pop("human", None)
    if target is None:
        return set()
    distance = {strategy: abs(value - target) for strategy, value in values.items() if value is not None}
    nearest = min(distance.values(), default=0.0)
    closest = {strategy for strategy, far in distance.items() if far == nearest}
    return closest if len(closest) < len(distance) or len(distance) == 1 else set()


def not_told_apart(row: Mapping[str, Any], human: Mapping[str, Any] | None, metric: str) -> bool:
    """Whether a strategy cannot be told from the human text by this metric.

    By the corrected p value of the paired difference; where there is none, if the human value lies within the interval
    of the strategy's value.
    """
    p = finite(row.get(f"{metric}_minus_human_p"))
    if p is not None:
        return p >= SIGNIFICANCE
    interval = bounds(row.get(f"{metric}_interval"))
    target = finite(human.get(metric)) if human else None
    return interval is not None and target is not None and interval[0] <= target <= interval[1]


def findings(rows: Sequence[Mapping[str, Any]], other: str = "human") -> list[tuple[str, str]]:
    """What the paired comparisons with ``other`` ("human" or "baseline") echo, in words: (metric's title, sentence).

    A metric shown has a line if it was compared; none where nothing was.
    """
    found = []
    for metric in METRICS:
        p_of = {row["strategy"]: finite(row.get(f"{metric.key}_minus_{other}_p")) for row in rows}
        known = {strategy: p for strategy, p in p_of.items() if p is not None}
        if not known:
            continue
        alike = [str(strategy) for strategy, p in known.items() if p >= SIGNIFICANCE]
        if len(alike) == len(known):
            said = "not distinguishable: " + ("all of them" if len(alike) > 1 else alike[0])
        else:
            said = f"not distinguishable: {', '.join(alike)}" if alike else "all of them differ"
        found.append((metric.title, said))
    return found


def baseline_name(rows: Sequence[Mapping[str, Any]]) -> str | None:
    """The strategy that the others are held against, if there is one."""
    return next((str(row["baseline"]) for row in rows if row.get("baseline")), None)


_MANY_PROMPTS = 100_000  # beyond which the number says only that the human value is too near 0 for such a width


def enough_prompts(rows: Sequence[Mapping[str, Any]]) -> str:
    """How many prompts the wanted width of intervals takes, in a sentence; nothing if that is not known."""
    human = next((row for row in rows if row.get("strategy") == "human"), {})
    width = next((row["interval_width"] for row in rows if finite(row.get("interval_width"))), None)
    prompts = next((row["prompts"] for row in rows if finite(row.get("prompts"))), None)
    if width is None or prompts is None:
        return ""
    takes = []
    for metric in METRICS:
        needed = [n for row in rows if (n := finite(row.get(f"{metric.key}_prompts_needed"))) is not None]
        if needed and finite(human.get(metric.key)):
            most = max(needed)
            said = count(most) if most <= _MANY_PROMPTS else f"over {count(_MANY_PROMPTS)}"
            takes.append(f"{said} for {metric.title}")
    if not takes:
        return ""
    return (
        f"To know every strategy’s difference from human to an interval {100 * width:g} % of the human value wide "
        f"takes this many prompts (there are {count(prompts)}): {', '.join(takes)}."
    )


def _documents(perplexity: Mapping[str, Any]) -> str:
    documents = perplexity.get("documents")
    return f"{count(documents)} validation document{'' if documents == 1 else 's'}"
