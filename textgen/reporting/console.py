"""Console output: one line per logged step, and tables of results; the same on a terminal and in a log file."""

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from textgen.progress import duration
from textgen.reporting.columns import METRICS, PERPLEXITIES, Column, cells
from textgen.reporting.formatting import MISSING, count, interval_text, number, part_of
from textgen.reporting.results import HUMAN, moment_pair, moments
from textgen.reporting.tables.balance import balance_findings, mask_findings
from textgen.reporting.tables.metrics import human_first
from textgen.reporting.wording import (
    closest_to_human,
    comparison_findings,
    excess_over_entropy,
    prompts_needed,
    recommendation,
    too_few_prompts,
)
from textgen.terminal import shown, styled

WIDTH = 80

# The columns that fit; the report has all of them, with intervals.
_PERPLEXITIES = ("bits_per_byte", "token_perplexity")
_METRICS = ("diversity", "nll", "rep_4", "self_bleu_4", "length")
_WITH_INTERVAL = ("diversity", "nll")


def print_headline(text: str, console: Console | None = None) -> None:
    """Print what was learned, in one sentence."""
    (console or _console()).print(Text("\n" + shown(text), style="bold"))


def print_perplexity(perplexity: Mapping[str, Mapping[str, Any]], console: Console | None = None) -> None:
    """Print the contents of perplexity.json: a table, the difference, and the excess over a known entropy."""
    console = console or _console()
    _print_table(console, lambda separator: _perplexity_table(perplexity, separator))
    difference = perplexity.get("difference") or {}
    if number(difference.get("bits_per_byte")) != MISSING:
        value, interval = difference["bits_per_byte"], difference.get("bits_per_byte_interval")
        text = _with_interval(number(value, 3), interval_text(interval, 3))
        console.print(Text(f"  difference in bits per byte: {text}"))
    if excess := excess_over_entropy(perplexity):
        console.print(Padding(Text(shown(excess)), (0, 2)))


def print_balance(
    perplexity: Mapping[str, Mapping[str, Any]],
    contamination: Mapping[str, Any],
    mask: Mapping[str, Any],
    console: Console | None = None,
) -> None:
    """Print the figures without contaminated documents, those of retained text, and what was trained on, in lines."""
    console = console or _console()
    for line in (*balance_findings(perplexity, contamination), *mask_findings(mask)):
        console.print(Padding(Text(shown(line)), (0, 0, 0, 2)))


def _perplexity_table(perplexity: Mapping[str, Mapping[str, Any]], separator: str) -> Table:
    columns = _choose(PERPLEXITIES, _PERPLEXITIES)
    table = _table("Perplexity, with 95 % intervals (lower is better)")
    table.add_column("")
    for name in (*(column.title for column in columns), "documents"):
        table.add_column(name, justify="right", overflow="fold")
    for moment in moments(perplexity):
        entry = perplexity[moment]
        if entry:
            values = [_with_interval(*cell, separator) for cell in cells(entry, columns)]
            table.add_row(shown(moment), *values, part_of(entry.get("documents"), entry.get("documents_available")))
    return table


def print_decoding(decoding: Mapping[str, Sequence[Mapping[str, Any]]], console: Console | None = None) -> None:
    """Print the last model's part of decoding.json as a table, with ``*`` at the values closest to the human row."""
    console = console or _console()
    last = moment_pair(decoding)[1]
    if last and (rows := decoding[last]):
        console.print()
        _print_table(console, partial(_decoding_table, last, rows, whole_names=console.width >= WIDTH))
        _print_findings(rows, console)


def print_recommendation(by_moment: Mapping[str, Mapping[str, Any]], console: Console | None = None) -> None:
    """Print which decoding strategy is recommended, and why: the contents of recommendation.json in a sentence."""
    if text := recommendation(by_moment):
        (console or _console()).print(Padding(Text(shown(text)), (0, 0, 0, 2)))


def _decoding_table(moment: str, rows: Sequence[Mapping[str, Any]], separator: str, *, whole_names: bool) -> Table:
    metrics = _choose(METRICS, _METRICS)
    table = _table(f"Decoding, {moment} (* closest to the human text)")
    table.add_column("strategy", overflow="fold", no_wrap=whole_names)
    for metric in metrics:
        title = metric.title.removesuffix("-4") if metric.key == "self_bleu_4" else metric.title
        table.add_column(title, justify="right", overflow="fold", no_wrap=metric.key not in _WITH_INTERVAL)
    closest = {metric.key: closest_to_human(rows, metric.key) for metric in metrics}
    for row in human_first(rows):
        strategy = str(row.get("strategy", MISSING))
        is_human = strategy == HUMAN
        values = []
        for metric in metrics:
            value = number(row.get(metric.key), metric.digits)
            if metric.key in _WITH_INTERVAL:
                value, interval = number(row.get(metric.key)), interval_text(row.get(f"{metric.key}_interval"))
                value = _with_interval(value, interval, separator)
            values.append(("*" if strategy in closest[metric.key] else "") + value)
        style = "bold" if is_human else None
        table.add_row(Text(shown(strategy)), *values, style=style, end_section=is_human)
    return table


def _print_findings(rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Which strategies are not distinguishable from human in the metrics shown, and how many prompts it would take."""
    if few := too_few_prompts(rows):
        console.print(Padding(Text(shown(few)), (0, 0, 0, 2)))
    titles = {metric.title for metric in _choose(METRICS, _METRICS)}
    findings = [(title, finding) for title, finding in comparison_findings(rows) if title in titles]
    if findings:
        console.print(Text("  Differences from human (paired over prompts, corrected for their number):"))
    for title, finding in findings:
        console.print(Padding(Text(shown(f"{title}: {finding}")), (0, 0, 0, 4)))
    if needed := prompts_needed(rows, only="diversity"):
        console.print(Padding(Text(shown(needed)), (0, 0, 0, 2)))


def step_line(
    row: Mapping[str, Any], steps: int, *, tokens_per_second: float | None = None, seconds_left: float | None = None
) -> str:
    """``step 120/400 · loss 3.214 · lr 3.0e-04 · grad 0.81 · 5,120 tok/s · 0:42 left``; unknown parts are omitted."""
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


def _choose(columns: Sequence[Column], keys: Sequence[str]) -> list[Column]:
    by_key = {column.key: column for column in columns}
    return [by_key[key] for key in keys]


def _with_interval(value: str, interval: str, separator: str = " ") -> str:
    return f"{value}{separator}({interval})" if interval else value


def _table(title: str) -> Table:
    return Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", padding=0)


def _print_table(console: Console, make: Callable[[str], Table]) -> None:
    """Print a table with each interval beside its value or, if the console is too narrow for that, below it."""
    table = make(" ")
    if Measurement.get(console, console.options.update_width(10 * WIDTH), table).maximum > console.width:
        table = make("\n")
    console.print(table)


def _console() -> Console:
    """A console for standard output that is wide enough for the tables when the output is piped."""
    console = Console(file=styled(sys.stdout), highlight=False)
    if not console.is_terminal:
        console.width = max(WIDTH, console.width)
    return console
