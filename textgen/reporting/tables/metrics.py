"""Tables of numbers: perplexity, token accuracy, decoding strategies, truncation diagnostics; cells as text."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from textgen.reporting.columns import ACCURACIES, DIAGNOSTICS, PERPLEXITIES, Column, cells
from textgen.reporting.formatting import MISSING, count, finite, number
from textgen.reporting.results import HUMAN, moment_pair, moments
from textgen.reporting.wording import (
    baseline_strategy,
    closest_to_human,
    comparison_findings,
    like_human,
    prompts_needed,
    too_few_prompts,
)

HARDEST_SHOWN = 12

Cells = list[tuple[str, str]]
"""(value, interval) of each column."""


def perplexity_rows(perplexity: Mapping[str, Any]) -> list[tuple[str, Cells]]:
    """(moment, cells of :data:`PERPLEXITIES`) of each measured model."""
    return [(moment, cells(perplexity[moment], PERPLEXITIES)) for moment in moments(perplexity)]


def perplexity_rows_with_sizes(perplexity: Mapping[str, Any]) -> list[tuple[str, Cells]]:
    """The same with numbers of tokens, words and bytes, and a row for the documents' source if it is known."""
    entries = [(moment, perplexity[moment]) for moment in moments(perplexity)]
    entries += [("the source", entry["source"]) for _, entry in entries[-1:] if entry.get("source")]
    return [
        (name, cells(entry, PERPLEXITIES) + [(count(entry.get(size)), "") for size in ("tokens", "words", "bytes")])
        for name, entry in entries
    ]


def accuracy_rows(perplexity: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, Cells]]:
    """(moment, cells of :data:`ACCURACIES`) of each model for which they were measured."""
    return [
        (moment, cells(perplexity[moment], ACCURACIES))
        for moment in moments(perplexity)
        if finite(perplexity[moment].get("top_1_accuracy")) is not None
    ]


def hardest_rows(perplexity: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The :data:`HARDEST_SHOWN` hardest tokens of the second moment, with numbers as text."""
    _, moment = moment_pair(perplexity)
    tokens = perplexity.get(moment or "", {}).get("hardest_tokens") or []
    return [
        {
            **token,
            "nll": number(token.get("nll"), 1),
            "expected_probability": number(token.get("expected_probability"), 2),
        }
        for token in tokens[:HARDEST_SHOWN]
    ]


def human_first(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows of a decoding table, the human one first, the others in the order of the file."""
    return sorted(rows, key=lambda row: row.get("strategy") != HUMAN)


def decoding_table(moment: str, rows: Sequence[Mapping[str, Any]], metrics: Sequence[Column]) -> dict[str, Any]:
    """One table of strategies with its findings, for the report's template."""
    human = next((row for row in rows if row.get("strategy") == HUMAN), None)
    closest = {metric.key: closest_to_human(rows, metric.key) for metric in metrics}
    sizes = {int(row["continuations"]) for row in rows if row.get("continuations")}
    table = []
    for row in human_first(rows):
        is_human = row.get("strategy") == HUMAN
        marked = [
            {
                "value": value,
                "interval": interval,
                "closest": not is_human and row.get("strategy") in closest[metric.key],
                "like_human": not is_human and like_human(row, human, metric.key),
            }
            for metric, (value, interval) in zip(metrics, cells(row, metrics), strict=True)
        ]
        strategy = row.get("strategy", MISSING)
        table.append({"strategy": strategy, "settings": settings_text(row), "human": is_human, "cells": marked})
    baseline = baseline_strategy(rows)
    compared_with = [(HUMAN, comparison_findings(rows))]
    compared_with += [(baseline, comparison_findings(rows, "baseline"))] if baseline else []
    return {
        "moment": moment,
        "rows": table,
        "continuations": "–".join(count(size) for size in sorted({min(sizes), max(sizes)})) if sizes else "",
        "findings": [(other, findings) for other, findings in compared_with if findings],
        "too_few_prompts": too_few_prompts(rows),
        "prompts_needed": prompts_needed(rows),
        "no_mauve": next(
            (row["mauve_reason"] for row in rows if row.get("strategy") != HUMAN and row.get("mauve_reason")), None
        ),
    }


def diagnostics_rows(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, Cells]]:
    """(strategy, settings, cells of :data:`DIAGNOSTICS`) of each strategy that truncates."""
    return [(str(row.get("strategy", MISSING)), settings_text(row), cells(row, DIAGNOSTICS)) for row in rows]


def settings_text(row: Mapping[str, Any]) -> str:
    """The settings of a strategy in one line."""
    return ", ".join(f"{name} {setting_text(value)}" for name, value in (row.get("settings") or {}).items())


def setting_text(value: Any) -> str:
    """A setting as it would be written in YAML."""
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False, default=str)
