"""What a run says on the terminal; the same words when its output goes to a file."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from textgen.reporting.wording import (
    METRICS,
    MISSING,
    closest_to_human,
    compared,
    count,
    enough_prompts,
    findings,
    interval_text,
    number,
    over_the_floor,
    visible,
)

WIDTH = 100
# What fits; the report has every column, with intervals.
_WITH_INTERVAL = ("diversity", "nll")
_COLUMNS = ("diversity", "nll", "rep_4", "self_bleu_4", "length", "tokens_per_second")


def print_perplexity(perplexity: Mapping[str, Mapping[str, Any]], console: Console | None = None) -> None:
    """Print the contents of perplexity.json as a table, and the difference below it."""
    console = console or _console()
    table = Table(
        "", box=box.SIMPLE_HEAD, title="Perplexity, with 95 % intervals (less is better)", title_justify="left"
    )
    for name in ("bits per byte", "token perplexity", "word perplexity", "documents"):
        table.add_column(name, justify="right", overflow="fold")
    for moment in compared(perplexity):
        if moment and perplexity.get(moment):
            stated = perplexity[moment]
            cells = [
                _with_interval(stated, name, digits)
                for name, digits in (("bits_per_byte", 3), ("token_perplexity", 2), ("word_perplexity", 2))
            ]
            table.add_row(moment, *cells, count(stated.get("documents")))
    console.print(table)
    difference = perplexity.get("difference") or {}
    if number(difference.get("bits_per_byte")) != MISSING:
        value = number(difference["bits_per_byte"], 3)
        span = interval_text(difference.get("bits_per_byte_interval"), 3)
        console.print(Text(f"  difference in bits per byte: {value}" + (f" ({span})" if span else "")))
    if floor := over_the_floor(perplexity):
        console.print(Padding(Text(visible(floor)), (0, 2)))


def print_decoding(decoding: Mapping[str, Sequence[Mapping[str, Any]]], console: Console | None = None) -> None:
    """Print the contents of decoding.json, a table a moment, the human row apart, ``*`` where one is closest to it."""
    console = console or _console()
    metrics = [metric for metric in METRICS if metric.key in _COLUMNS]
    metrics.sort(key=lambda metric: _COLUMNS.index(metric.key))
    for moment in compared(decoding):
        rows = decoding.get(moment) if moment else None
        if not rows:
            continue
        title = f"Decoding, {moment} (* is closest to human, which is the target)"
        table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", padding=(0, 1, 0, 0))
        table.add_column("strategy", overflow="fold")
        for metric in metrics:
            # In a narrow terminal an interval goes to the next line, and no number is cut.
            table.add_column(metric.title, justify="right", overflow="fold", no_wrap=metric.key not in _WITH_INTERVAL)
        nearest = {metric.key: closest_to_human(rows, metric.key) for metric in metrics}
        for row in sorted(rows, key=lambda row: row.get("strategy") != "human"):
            strategy = str(row.get("strategy", MISSING))
            cells = []
            for metric in metrics:
                interval = metric.key in _WITH_INTERVAL
                value = _with_interval(row, metric.key, 2) if interval else number(row.get(metric.key), metric.digits)
                mark = "*" if strategy != "human" and strategy in nearest[metric.key] else ""
                cells.append(mark + value)
            human = strategy == "human"
            table.add_row(Text(visible(strategy)), *cells, style="bold" if human else None, end_section=human)
        console.print(table)
        if moment == compared(decoding)[1]:
            _print_findings(rows, console)


def _print_findings(rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    """What the paired comparison with the human text says about the columns shown, and how many prompts would do."""
    shown = {metric.title for metric in METRICS if metric.key in _COLUMNS}
    said = [(title, sentence) for title, sentence in findings(rows) if title in shown]
    if said:
        console.print(
            Text("  Compared with human, by paired differences over prompts, corrected for how many there are:")
        )
    for title, sentence in said:
        console.print(Padding(Text(visible(f"{title}: {sentence}")), (0, 0, 0, 4)))
    if enough := enough_prompts(rows):
        console.print(Padding(Text(enough), (0, 0, 0, 2)))


def print_step(
    row: Mapping[str, Any],
    steps: int,
    *,
    tokens_per_second: float | None = None,
    seconds_left: float | None = None,
    console: Console | None = None,
) -> None:
    """Print one line for a row of metrics.jsonl: a plain line, so that a log file keeps every one of them."""
    (console or _console()).print(
        Text(step_line(row, steps, tokens_per_second=tokens_per_second, seconds_left=seconds_left)), soft_wrap=True
    )


def step_line(
    row: Mapping[str, Any], steps: int, *, tokens_per_second: float | None = None, seconds_left: float | None = None
) -> str:
    """``step 120/400 · loss 3.214 · lr 3.0e-04 · grad 0.81 · 5,120 tok/s · 0:42 left``, without what is not known."""
    parts = [f"step {row['step']:>{len(str(steps))}}/{steps}"]
    for key, name, form in (
        ("train/loss", "loss", ".3f"),
        ("eval/loss", "eval loss", ".3f"),
        ("train/learning_rate", "lr", ".1e"),
        ("train/grad_norm", "grad", ".2f"),
    ):
        if number(row.get(key)) != MISSING:
            parts.append(f"{name} {row[key]:{form}}")
    if tokens_per_second is not None:
        parts.append(f"{count(tokens_per_second)} tok/s")
    if seconds_left is not None:
        parts.append(f"{duration(seconds_left)} left")
    return " · ".join(parts)


def duration(seconds: float) -> str:
    """``0:42``, ``12:05``, ``3:00:00``."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _with_interval(row: Mapping[str, Any], key: str, digits: int) -> str:
    span = interval_text(row.get(f"{key}_interval"), digits)
    return number(row.get(key), digits) + (f" ({span})" if span else "")


def _console() -> Console:
    """A console for standard output that never cuts numbers off because a pipe has no width."""
    console = Console(file=sys.stdout, highlight=False)
    if not console.is_terminal:
        console.width = max(WIDTH, console.width)
    return console
