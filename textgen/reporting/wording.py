"""A run and its results in words: the same in the report, the model card and on the console."""

from collections.abc import Mapping, Sequence
from typing import Any

from textgen.reporting.columns import METRICS
from textgen.reporting.formatting import bounds, count, finite, interval_text, number, part_of
from textgen.reporting.results import HUMAN, RunFiles, moment_pair, moments

SIGNIFICANCE = 0.05
"""From this corrected p value on, two strategies are called not distinguishable."""

CONVENTIONS = {
    "rolling": (
        "Convention “rolling”, as in lm-evaluation-harness: each document is scored separately, in disjoint windows, "
        "its first token included."
    ),
    "strided": (
        "Convention “strided”: documents are concatenated and scored in overlapping windows; each token is scored "
        "once, with the context that its window provides{stride}."
    ),
}

_MANY_PROMPTS = 100_000  # above this, the number only says that the human value is too close to 0 for a relative width


def title(run: RunFiles) -> str:
    """The title of the report and of the model card."""
    data = run.config.get("data")
    on = f" on {data}" if data else ""
    if run.is_fine_tuning:
        return f"{run.model} fine-tuned{on}" + (f" ({run.method})" if run.method != "full" else "")
    return f"{run.model} evaluated{on}"


def facts(run: RunFiles) -> list[tuple[str, str]]:
    """The setup of the run as (name, value) pairs; unknown ones are omitted."""
    config, environment = run.config, run.environment
    trainable, total = environment.get("trainable_parameters"), environment.get("total_parameters")
    share = f" ({100 * trainable / total:.3g} %)" if trainable and total else ""
    steps = run.metrics[-1]["step"] if run.metrics else config.get("steps")
    targets = environment.get("train_targets", environment.get("train_tokens"))
    known = [
        ("Model", config.get("model") or environment.get("model")),
        ("Baseline", config.get("baseline")),
        ("Method", run.method),
        ("Trainable parameters", trainable and f"{count(trainable)} of {count(total)}{share}"),
        ("Data", config.get("data")),
        ("Documents", ", ".join(_document_counts(run))),
        ("Training targets", targets and count(targets)),
        ("Steps", count(steps) if run.is_fine_tuning and steps is not None else None),
        ("Processes", environment.get("processes")),
        ("Threads per process", environment.get("threads")),
        ("Device", environment.get("device")),
        ("Seed", config.get("seed")),
        ("Data SHA-256", environment.get("data_sha256")),
        ("Command", environment.get("command")),
    ]
    return [(name, str(value)) for name, value in known if value is not None and value != ""]


def _document_counts(run: RunFiles) -> list[str]:
    """The numbers of training and held-out documents; and how many of the latter are scored, if not all of them."""
    names = {"train": "training", "validation": "held out", "evaluation": "scored"}
    if run.is_fine_tuning:
        names |= {"training_evaluation": "scored during training"}
    numbers = {name: run.environment.get(f"{split}_documents") for split, name in names.items()}
    available = numbers["held out"]
    return [
        f"{count(number)} {name}"
        for name, number in numbers.items()
        if number is not None and not (name.startswith("scored") and number == available)
    ]


def convention(run: RunFiles) -> str:
    """How the perplexities were computed, in a sentence or two."""
    _, moment = moment_pair(run.perplexity)
    if moment is None:
        return ""
    entry = run.perplexity[moment]
    stride = f" (stride {count(entry['stride'])})" if entry.get("stride") else ""
    name = str(entry.get("convention"))
    meaning = CONVENTIONS.get(name, f"Convention “{name}”.").format(stride=stride)
    return (
        f"{meaning} Values come from sums over all tokens of all scored documents, not from averages over documents."
        f"{_sample(entry)}"
    )


def headline(run: RunFiles) -> str:
    """The result of a run in one sentence, which claims no more than the interval allows."""
    first, second = moment_pair(run.perplexity)
    if second is None:
        return "No perplexity was measured in this run."
    documents = _documents(run.perplexity[second])
    if first is None:
        entry = run.perplexity[second]
        interval = interval_text(entry.get("bits_per_byte_interval"), 3)
        interval = f"95 % interval {interval}, " if interval else ""
        subject = "After fine-tuning, the model has" if second == "after" else f"{run.model} has"
        return f"{subject} {number(entry.get('bits_per_byte'), 3)} bits per byte ({interval}{documents})."
    return _comparison(run, first, second, documents)


def _comparison(run: RunFiles, first: str, second: str, documents: str) -> str:
    old, new = (finite(run.perplexity[moment].get("bits_per_byte")) for moment in (first, second))
    if old is None or new is None:
        return "Bits per byte are missing from this run, so it cannot show whether the model improved."
    measured = run.perplexity.get("difference", {})
    difference = finite(measured.get("bits_per_byte"))
    difference = new - old if difference is None else difference
    interval = bounds(measured.get("bits_per_byte_interval"))
    digits = 2 if abs(difference) >= 0.1 else 3 if abs(difference) >= 0.01 else 4
    uncertainty = f"95 % interval {interval_text(interval, digits)}" if interval else "no interval was computed"
    sign = "+" if difference > 0 else ""
    evidence = f"({sign}{number(difference, digits)}, {uncertainty}, {documents})"
    before, after = number(old, digits), number(new, digits)
    unclear = interval is not None and interval[0] <= 0 <= interval[1]
    ending = "; the two are not distinguishable on this data." if unclear else "."
    if first == "baseline":
        return f"{run.model} has {after} bits per byte, the baseline {before} {evidence}{ending}"
    if unclear:
        return f"Fine-tuning changed bits per byte from {before} to {after} {evidence}{ending}"
    if difference == 0:
        return f"Fine-tuning left bits per byte at {after} {evidence}."
    verb = "lowered" if difference < 0 else "raised"
    return f"Fine-tuning {verb} bits per byte from {before} to {after} {evidence}."


def excess_over_entropy(perplexity: Mapping[str, Any]) -> str:
    """How close the models are to the best possible value, if the entropy of the documents is known; else empty."""
    entries = {moment: perplexity[moment] for moment in moments(perplexity)}
    source = next((entry["source"] for entry in entries.values() if entry.get("source")), None)
    if not source:
        return ""
    parts = []
    for moment, entry in entries.items():
        ends = bounds(entry.get("excess_bits_per_byte_interval"))
        interval = f" (95 % interval {interval_text(ends, 3)})" if ends else ""
        unclear = ", not distinguishable from zero" if ends and ends[0] <= 0 <= ends[1] else ""
        parts.append(f"{moment} {number(entry.get('excess_bits_per_byte'), 3)}{interval}{unclear}")
    return (
        f"The documents come from a source of known entropy, {source['name']}. Under the source itself they have "
        f"{number(source['bits_per_byte'], 3)} bits per byte (95 % interval "
        f"{interval_text(source.get('bits_per_byte_interval'), 3)}; its entropy rate is "
        f"{number(source['entropy_rate'], 3)}), and no model can be expected to do better. Excess over this minimum: "
        f"{'; '.join(parts)}."
    )


def closest_to_human(rows: Sequence[Mapping[str, Any]], metric: str) -> set[str]:
    """The strategies closest to the human value; none if there is no human value or all are equally close."""
    values = {row["strategy"]: finite(row.get(metric)) for row in rows}
    target = values.pop(HUMAN, None)
    if target is None:
        return set()
    distance = {strategy: abs(value - target) for strategy, value in values.items() if value is not None}
    smallest = min(distance.values(), default=0.0)
    closest = {strategy for strategy, value in distance.items() if value == smallest}
    return closest if len(closest) < len(distance) or len(distance) == 1 else set()


def like_human(row: Mapping[str, Any], human: Mapping[str, Any] | None, metric: str) -> bool:
    """Whether a strategy is not distinguishable from the human text in this metric.

    Decided by the corrected p value of the paired difference; without one, by whether the human value lies within the
    interval of the strategy's value. Never if there are too few prompts to distinguish any.
    """
    if _indistinct(row):
        return False
    p = finite(row.get(f"{metric}_minus_human_p"))
    if p is not None:
        return p >= SIGNIFICANCE
    interval = bounds(row.get(f"{metric}_interval"))
    target = finite(human.get(metric)) if human else None
    return interval is not None and target is not None and interval[0] <= target <= interval[1]


def comparison_findings(rows: Sequence[Mapping[str, Any]], other: str = HUMAN) -> list[tuple[str, str]]:
    """(metric's title, which strategies are not distinguishable from ``other``) of every metric that was compared.

    ``other`` is "human" or "baseline". Empty if there are too few prompts to distinguish any: see
    :func:`too_few_prompts`.
    """
    found: list[tuple[str, str]] = []
    if any(map(_indistinct, rows)):
        return found
    for metric in METRICS:
        p_values = {row["strategy"]: finite(row.get(f"{metric.key}_minus_{other}_p")) for row in rows}
        known = {strategy: p for strategy, p in p_values.items() if p is not None}
        alike = [str(strategy) for strategy, p in known.items() if p >= SIGNIFICANCE]
        if not known:
            continue
        if not alike:
            finding = "all differ"
        elif len(alike) == len(known) > 1:
            finding = "not distinguishable: all"
        else:
            finding = f"not distinguishable: {', '.join(alike)}"
        found.append((metric.title, finding))
    return found


def _indistinct(row: Mapping[str, Any]) -> bool:
    """Whether not even the largest difference would be significant."""
    smallest = finite(row.get("smallest_p"))
    return smallest is not None and smallest >= SIGNIFICANCE


def too_few_prompts(rows: Sequence[Mapping[str, Any]]) -> str:
    """That there are too few prompts to distinguish any strategy from human, and how many are enough; else empty."""
    row = next(filter(_indistinct, rows), None)
    if row is None:
        return ""
    prompts, least = row["prompts"], row["least_prompts"]
    return (
        f"{count(prompts)} prompt{'' if prompts == 1 else 's'}: too few to distinguish any strategy from human, "
        f"however large the difference; {count(least)} can."
    )


def recommendation(by_moment: Mapping[str, Mapping[str, Any]]) -> str:
    """The recommended strategy and its evidence in a sentence or two; empty if strategies were not compared."""
    found = by_moment.get(moment_pair(by_moment)[1] or "", {})
    if not found:
        return ""
    if not found.get("strategy"):
        return f"No decoding strategy is recommended: {found.get('reason')}."
    strategy, baseline = found["strategy"], found["baseline"]
    settings = ", ".join(f"{name} {value:g}" for name, value in found["settings"].items())
    named = f"{strategy} ({settings})" if settings else strategy
    chose, confirm = found["prompts"]
    if not found["confirmed"]:
        return (
            f"Closest to the human text on {chose} of {chose + confirm} prompts: {named}. Not confirmed: "
            f"{found['reason']}."
        )
    far, near = (number(found["distances"][name][1], 2) for name in (baseline, strategy))
    written = found.get("written_to")
    if written:
        ending = f" Written to {written}."
    elif found.get("generation_config") is None:
        ending = " transformers cannot decode in this way."
    else:
        ending = ""
    return (
        f"Recommended: {named}. Chosen on {chose} prompts and confirmed on {confirm} others: its distance from the "
        f"human text there is {near}, that of {baseline} {far} (p = {found['closer_by_p']:.2g}), and no strategy is "
        f"significantly closer.{ending}"
    )


def baseline_strategy(rows: Sequence[Mapping[str, Any]]) -> str | None:
    """The strategy that the others are compared with, if there is one."""
    return next((str(row["baseline"]) for row in rows if row.get("baseline")), None)


def prompts_needed(rows: Sequence[Mapping[str, Any]], *, only: str | None = None) -> str:
    """The number of prompts at which every strategy's difference from human has an interval of the requested width
    (``interval_width``, as a share of the human value), per metric, or for one only; empty if that is not known."""
    human = next((row for row in rows if row.get("strategy") == HUMAN), {})
    width = next((row["interval_width"] for row in rows if finite(row.get("interval_width"))), None)
    prompts = next((row["prompts"] for row in rows if finite(row.get("prompts"))), None)
    if width is None or prompts is None:
        return ""
    needs = []
    for metric in METRICS:
        if only not in (None, metric.key):
            continue
        needed = [n for row in rows if (n := finite(row.get(f"{metric.key}_prompts_needed"))) is not None]
        if needed and finite(human.get(metric.key)):
            most = max(needed)
            needs.append(
                f"{count(most) if most <= _MANY_PROMPTS else f'over {count(_MANY_PROMPTS)}'} for {metric.title}"
            )
    if not needs:
        return ""
    return (
        f"Prompts needed for a ±{50 * width:g} % interval on the difference from human (now {count(prompts)}): "
        f"{', '.join(needs)}."
    )


def _documents(perplexity: Mapping[str, Any]) -> str:
    number = part_of(perplexity.get("documents"), perplexity.get("documents_available"))
    return f"{number} validation document{'' if number == '1' else 's'}"


def _sample(entry: Mapping[str, Any]) -> str:
    """Which part of the held-out documents was scored, as a sentence; empty if it is all of them."""
    documents, size = (part_of(entry.get(unit), entry.get(f"{unit}_available")) for unit in ("documents", "bytes"))
    if " of " not in documents:
        return ""
    return (
        f" Scored were {documents} held-out documents ({size} bytes), the same ones for every model "
        "(--evaluation-tokens); the intervals follow from their number."
    )
