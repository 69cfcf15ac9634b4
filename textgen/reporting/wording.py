"""Numbers and results in words: the same in the report, the model card and on the console."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from textgen.reporting.run_files import RunFiles

MISSING = "–"


@dataclass(frozen=True)
class Metric:
    """One column of the decoding table."""

    key: str
    title: str
    digits: int
    reading: str
    """How to read the column, in one sentence."""


METRICS = (
    Metric(
        "diversity", "diversity", 3, "The share of n-grams that are new, multiplied over n = 2, 3, 4: low is a loop."
    ),
    Metric("rep_2", "rep-2", 3, "The share of word pairs that already occurred."),
    Metric("rep_3", "rep-3", 3, "The same for runs of three words."),
    Metric("rep_4", "rep-4", 3, "The same for runs of four words."),
    Metric("seq_rep_4", "seq-rep-4", 3, "Repeated runs of four within each continuation, averaged over continuations."),
    Metric("distinct_2", "distinct-2", 3, "Different word pairs over all word pairs; it falls as texts get longer."),
    Metric(
        "self_bleu_4", "self-BLEU-4", 3, "How much a continuation resembles those of other prompts: high is one tune."
    ),
    Metric("nll", "nll", 3, "Nats per token under the model itself: far below human is bland, far above is noise."),
    Metric("length", "length", 1, "Tokens per continuation; compare the others only where this is alike."),
    Metric("end_of_text_rate", "end rate", 3, "The share of continuations that the model ended by itself."),
    Metric("tokens_per_second", "tokens/s", 0, "How fast it decoded here; people have no value, so nothing is marked."),
)


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
    """Whether the human value lies within the interval of a strategy's value."""
    interval = bounds(row.get(f"{metric}_interval"))
    target = finite(human.get(metric)) if human else None
    return interval is not None and target is not None and interval[0] <= target <= interval[1]


def _documents(perplexity: Mapping[str, Any]) -> str:
    documents = perplexity.get("documents")
    return f"{count(documents)} validation document{'' if documents == 1 else 's'}"
