"""One HTML page that says what a run did and how good the result is; it needs no network, now or in ten years."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from textgen.files import write_bytes
from textgen.reporting.figures import curves, decoding, tokens
from textgen.reporting.results import RunFiles
from textgen.reporting.sample_tables import side_by_side
from textgen.reporting.wording import (
    MISSING,
    Metric,
    baseline_name,
    closest_to_human,
    compared,
    count,
    enough_prompts,
    findings,
    interval_text,
    not_told_apart,
    number,
    over_the_floor,
    result,
    shown_metrics,
    visible,
)

PROMPTS_SHOWN = 12
PERPLEXITIES = {"token_perplexity": 2, "word_perplexity": 2, "byte_perplexity": 3, "bits_per_byte": 3}
"""Column of the perplexity table → digits shown."""

DIAGNOSTICS = {
    "tokens kept": ("kept_size", 1),
    "median": ("kept_size_median", 0),
    "probability kept": ("kept_mass", 3),
    "entropy left, nats": ("entropy", 3),
    "human’s token kept": ("human_coverage", 3),
}
"""Column of the table of what truncation keeps → its key and the digits shown."""

CONVENTIONS = {
    "rolling": (
        "Convention “rolling”, as in lm-evaluation-harness: every document by itself, in disjoint windows, from "
        "its first token on."
    ),
    "strided": (
        "Convention “strided”: the documents joined into one text, windows that overlap, each token scored once with "
        "the context that its window gives it{stride}."
    ),
}


def write_report(run_dir: Path) -> Path:
    """Write ``report.html`` from the other files of a run directory, and return its path.

    What was not measured is said to be missing. Everything that a user or a model wrote is escaped.

    Raises:
        UserError: if a file of the run cannot be read.
    """
    run = RunFiles.read(run_dir)
    path = run_dir / "report.html"
    write_bytes(path, render(run).encode("utf-8", "replace"))
    return path


def render(run: RunFiles) -> str:
    """The whole page."""
    environment = Environment(
        loader=PackageLoader("textgen.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"visible": visible, "setting": setting_text}
    prompts, prompts_note = _prompts(run)
    metrics = shown_metrics(run.decoding)
    return environment.get_template("report.html.j2").render(
        run=run,
        title=title(run),
        result=result(run),
        unfinished=_unfinished(run),
        facts=facts(run),
        loss_figure=_markup(curves.loss_curve(run.metrics)),
        convention=convention(run),
        perplexity_columns=[*(name.replace("_", " ") for name in PERPLEXITIES), "tokens", "words", "bytes"],
        perplexity_rows=_perplexity_rows(run.perplexity),
        floor=over_the_floor(run.perplexity),
        perplexity_figure=_markup(curves.perplexity_bars(run.perplexity)),
        accuracy_rows=tokens.accuracy_rows(run.perplexity),
        position_figure=_markup(tokens.loss_by_position(run.perplexity)),
        reliability_figure=_markup(tokens.reliability(run.perplexity)),
        hardest=tokens.hardest_rows(run.perplexity),
        metrics=metrics,
        decoding_tables=[
            _decoding_table(moment, run.decoding[moment], metrics) for moment in reversed(_in_order(run.decoding))
        ],
        decoding_figure=_markup(decoding.decoding_scatter(run.decoding)),
        diagnostics_tables=[
            (moment, _diagnostics_rows(run.diagnostics[moment])) for moment in reversed(_in_order(run.diagnostics))
        ],
        diagnostics_columns=list(DIAGNOSTICS),
        diagnostics_figure=_markup(decoding.diagnostics_scatter(run.diagnostics)),
        samples=side_by_side(run.samples()),
        prompts=prompts,
        prompts_note=prompts_note,
        command=str(run.environment.get("command") or f"python recipes/finetune.py --config {run.path}/config.yaml"),
        versions=", ".join(f"{name} {version}" for name, version in (run.environment.get("versions") or {}).items()),
    )


def title(run: RunFiles) -> str:
    """What the page is about, in a few words."""
    data = run.config.get("data")
    on = f" on {data}" if data else ""
    if run.is_fine_tuning:
        return f"{run.model} fine-tuned{on}" + (f" ({run.method})" if run.method != "full" else "")
    return f"{run.model} evaluated{on}"


def facts(run: RunFiles) -> list[tuple[str, str]]:
    """What was run, as (name, value) pairs; those that are not known are left out."""
    config, environment = run.config, run.environment
    trainable, total = environment.get("trainable_parameters"), environment.get("total_parameters")
    share = f" ({100 * trainable / total:.3g} %)" if trainable and total else ""
    steps = run.metrics[-1]["step"] if run.metrics else config.get("steps")
    processes, threads, device = (environment.get(key) for key in ("processes", "threads", "device"))
    split = [
        f"{count(environment[f'{part}_documents'])} {name}"
        for part, name in (("train", "to train on"), ("validation", "to validate on"))
        if environment.get(f"{part}_documents") is not None
    ]
    known = [
        ("Model", config.get("model") or environment.get("model")),
        ("Baseline", config.get("baseline")),
        ("Method", run.method),
        ("Parameters trained", trainable and f"{count(trainable)} of {count(total)}{share}"),
        ("Data", config.get("data")),
        ("Documents", ", ".join(split)),
        ("Tokens to train on", environment.get("train_tokens") and count(environment["train_tokens"])),
        ("Steps", count(steps) if run.is_fine_tuning and steps is not None else None),
        ("Processes", processes),
        ("Threads of each", threads),
        ("Device", device),
        ("Seed", config.get("seed")),
        ("Data SHA-256", environment.get("data_sha256")),
        ("Command", environment.get("command")),
    ]
    return [(name, str(value)) for name, value in known if value is not None and value != ""]


def convention(run: RunFiles) -> str:
    """What the perplexities mean, in a sentence or two."""
    _, moment = compared(run.perplexity)
    if moment is None:
        return ""
    stated = run.perplexity[moment]
    stride = f" (stride {count(stated['stride'])})" if stated.get("stride") else ""
    name = str(stated.get("convention"))
    meaning = CONVENTIONS.get(name, f"Convention “{name}”.").format(stride=stride)
    return f"{meaning} Each figure comes from one sum over all tokens of all documents, never from a mean of means."


def setting_text(value: Any) -> str:
    """A setting as one would write it in YAML."""
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False, default=str)


def _in_order(by_moment: Mapping[str, Any]) -> list[str]:
    return [moment for moment in compared(by_moment) if moment]


def _perplexity_rows(perplexity: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """A row a moment, and one for the source of the documents where it is known."""
    rows = [(moment, perplexity[moment]) for moment in _in_order(perplexity)]
    rows += [("the source", stated["source"]) for _, stated in rows[-1:] if stated.get("source")]
    return [(name, _perplexities(stated)) for name, stated in rows]


def _perplexities(stated: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(value, interval) for every column of the perplexity table."""
    cells = [
        (number(stated.get(name), digits), interval_text(stated.get(f"{name}_interval"), digits))
        for name, digits in PERPLEXITIES.items()
    ]
    return cells + [(count(stated.get(name)), "") for name in ("tokens", "words", "bytes")]


def _decoding_table(moment: str, rows: Sequence[Mapping[str, Any]], metrics: Sequence[Metric]) -> dict[str, Any]:
    """One table of strategies: the human row first, then the order of the file."""
    human = next((row for row in rows if row.get("strategy") == "human"), None)
    nearest = {metric.key: closest_to_human(rows, metric.key) for metric in metrics}
    sizes = {int(row["continuations"]) for row in rows if row.get("continuations")}
    table = []
    for row in sorted(rows, key=lambda row: row is not human):
        cells = [
            {
                "value": number(row.get(metric.key), metric.digits),
                "interval": interval_text(row.get(f"{metric.key}_interval"), metric.digits),
                "nearest": row is not human and row.get("strategy") in nearest[metric.key],
                "alike": row is not human and not_told_apart(row, human, metric.key),
            }
            for metric in metrics
        ]
        settings = _settings(row)
        table.append(
            {"strategy": row.get("strategy", MISSING), "settings": settings, "human": row is human, "cells": cells}
        )
    said = f"{'–'.join(count(size) for size in sorted({min(sizes), max(sizes)}))} continuations a row" if sizes else ""
    baseline = baseline_name(rows)
    return {
        "moment": moment,
        "rows": table,
        "continuations": said,
        "findings": [("the human text", findings(rows))]
        + ([(baseline, findings(rows, "baseline"))] if baseline else []),
        "enough_prompts": enough_prompts(rows),
        "unlike_sets": next(
            (row["mauve_reason"] for row in rows if row is not human and row.get("mauve_reason")), None
        ),
    }


def _diagnostics_rows(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """(strategy, settings, (value, interval) for each column) of the table of what truncation keeps."""
    return [
        (
            str(row.get("strategy", MISSING)),
            _settings(row),
            [
                (number(row.get(key), digits), interval_text(row.get(f"{key}_interval"), digits))
                for key, digits in DIAGNOSTICS.values()
            ],
        )
        for row in rows
    ]


def _settings(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {setting_text(value)}" for name, value in (row.get("settings") or {}).items())


def _prompts(run: RunFiles) -> tuple[list[dict[str, Any]], str]:
    """The first prompts with all their continuations, one sample of each, and a sentence on what was left out."""
    texts: dict[Any, dict[str, Any]] = {}
    more_samples, ids = False, set()
    for row in run.continuations():
        ids.add(row["prompt_id"])
        if row["prompt_id"] not in texts and len(texts) == PROMPTS_SHOWN:
            continue
        prompt = texts.setdefault(row["prompt_id"], {"text": row.get("prompt", ""), "human": None, "by": {}})
        if row["strategy"] == "human":
            prompt["human"] = row["text"]
        else:
            of_strategy = prompt["by"].setdefault(row["strategy"], {})
            more_samples = more_samples or row["when"] in of_strategy
            of_strategy.setdefault(row["when"], row["text"])
    shown = []
    for prompt_id, prompt in texts.items():
        present = {when for by_moment in prompt["by"].values() for when in by_moment}
        moments = [moment for moment in curves.MOMENT_COLOUR if moment in present] or sorted(present) or ["text"]
        rows = [(strategy, [by.get(moment) for moment in moments]) for strategy, by in prompt["by"].items()]
        beginning = " ".join(prompt["text"].split())
        beginning = beginning if len(beginning) <= 90 else beginning[:90].rstrip() + "…"
        shown.append({"id": prompt_id, "beginning": beginning, "moments": moments, "rows": rows, **prompt})
    note = f"{len(shown)} of {len(ids)} prompts" + (", the first sample of each strategy" if more_samples else "")
    return shown, f"{note}. Every continuation is in evaluation/continuations.jsonl."


def _unfinished(run: RunFiles) -> str:
    """A warning if the run did not come to its end."""
    if run.status.get("state") not in ("failed", "preempted"):
        return ""
    message = run.status.get("message") or ""
    return f"This run is not complete: {run.status['state']} at step {run.status.get('step')}. {message}"


def _markup(svg: str | None) -> Markup | None:
    """Our own drawing, which is markup and not text."""
    return None if svg is None else Markup(svg)
