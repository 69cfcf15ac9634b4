"""Tables on W&B: decoding metrics, diagnostics, loss by position, calibration, continuations; samples, which grow."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from textgen.printable import printable
from textgen.reporting.columns import DIAGNOSTICS, METRICS, Column
from textgen.reporting.results import HUMAN, RunFiles, moments

MAX_ROWS = 10_000
"""The most rows that W&B takes in a table."""

Table = tuple[list[str], list[list[Any]]]
"""Columns and rows."""

SAMPLES = "samples/texts"
"""The name of the table of sample texts."""

SAMPLED = "samples/step"
"""The name of the step of the last texts in it."""

SAMPLE_COLUMNS = ("step", "prompt_id", "prompt", "strategy", "text")


class SamplesTable:
    """Sample texts as a W&B table that grows: each call logs the new rows."""

    def __init__(self) -> None:
        self._table: Any = None

    def log(self, run: Any, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add rows of ``samples.jsonl`` that the run does not have yet."""
        import wandb

        if self._table is None:
            # Immutable, the default, would keep the first rows only.
            self._table = wandb.Table(columns=[*SAMPLE_COLUMNS], log_mode="INCREMENTAL")
        new = rows[: MAX_ROWS - len(self._table.data)]
        if not new:
            return
        for row in new:
            self._table.add_data(row["step"], *(printable(row[name]) for name in SAMPLE_COLUMNS[1:]))
        run.log({SAMPLED: new[-1]["step"], SAMPLES: self._table})


def decoding_table(run: RunFiles) -> Table:
    """The decoding comparison: one row per moment and strategy."""
    return _by_strategy(run.decoding, METRICS)


def diagnostics_table(run: RunFiles) -> Table:
    """What each strategy keeps of the model's distribution: one row per moment and strategy."""
    return _by_strategy(run.diagnostics, DIAGNOSTICS)


def position_table(run: RunFiles) -> Table:
    """Loss by context length: one row per moment and range of it."""
    return _of_tokens(run, "loss_by_position", ("from", "to", "tokens", "nll"), "nll_interval")


def calibration_table(run: RunFiles) -> Table:
    """Confidence and accuracy: one row per moment and range of probability."""
    return _of_tokens(run, "calibration", ("from", "to", "tokens", "confidence", "accuracy"), "accuracy_interval")


def _by_strategy(by_moment: Mapping[str, Sequence[Mapping[str, Any]]], columns: Sequence[Column]) -> Table:
    keys = [key for column in columns for key in (column.key, f"{column.key}_low", f"{column.key}_high")]
    rows = []
    for moment in moments(by_moment):
        for row in by_moment[moment]:
            values: list[Any] = []
            for column in columns:
                low, high = row.get(f"{column.key}_interval") or (None, None)
                values += [_float(value) for value in (row.get(column.key), low, high)]
            rows.append([moment, printable(row.get("strategy")), *values])
    return ["when", "strategy", *keys], rows[:MAX_ROWS]


def _of_tokens(run: RunFiles, table: str, keys: Sequence[str], interval: str) -> Table:
    rows = [
        [moment, *(_float(row.get(key)) for key in keys), *map(_float, row.get(interval) or (None, None))]
        for moment in moments(run.perplexity)
        for row in run.perplexity[moment].get(table) or []
    ]
    ends = [f"{interval.removesuffix('_interval')}_{end}" for end in ("low", "high")]
    return ["when", *keys, *ends], rows[:MAX_ROWS]


def _float(value: Any) -> float | None:
    """W&B wants one type per column."""
    return None if value is None else float(value)


def continuations_table(run: RunFiles) -> Table:
    """The continuations: one row per prompt and sample, one column per moment and strategy."""
    columns: list[str] = []
    prompts: dict[tuple[str, int], dict[str, str]] = {}
    for row in run.continuations():
        is_human = row["strategy"] == HUMAN
        column = HUMAN if is_human else printable(f"{row['when']}/{row['strategy']}")
        if column not in columns:
            columns.insert(0, column) if is_human else columns.append(column)
        texts = prompts.setdefault((printable(row["prompt_id"]), int(row["sample"])), {})
        texts |= {"prompt": printable(row["prompt"]), column: printable(row["text"])}
    rows: list[list[Any]] = [
        [prompt_id, sample, texts["prompt"], *(texts.get(column) for column in columns)]
        for (prompt_id, sample), texts in prompts.items()
    ]
    return ["prompt_id", "sample", "prompt", *columns], rows[:MAX_ROWS]


TABLES: dict[str, Callable[[RunFiles], Table]] = {
    "decoding": decoding_table,
    "continuations": continuations_table,
    "diagnostics": diagnostics_table,
    "loss_by_position": position_table,
    "calibration": calibration_table,
}
"""Names of the tables that are sent at the end → what makes them; one without rows is not sent."""
