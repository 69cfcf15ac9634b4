"""Tables on W&B: decoding metrics, continuations side by side, and samples that grow during training."""

from collections.abc import Mapping, Sequence
from typing import Any

from textgen.printable import printable
from textgen.reporting.columns import METRICS
from textgen.reporting.results import HUMAN, RunFiles, moments

MAX_ROWS = 10_000
"""The most rows that W&B takes in a table."""

SAMPLE_COLUMNS = ("step", "prompt_id", "prompt", "strategy", "text")


class SamplesTable:
    """The rows of ``samples.jsonl`` as a W&B table that grows: each call logs the new rows, and no row twice."""

    def __init__(self) -> None:
        self._table: Any = None
        self._step = -1

    def log(self, run: Any, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add the rows whose step is later than what this W&B run already has, also if it is resumed."""
        import wandb

        if self._table is None:
            # Immutable, the default, would keep the first rows only.
            self._table = wandb.Table(columns=[*SAMPLE_COLUMNS], log_mode="INCREMENTAL")
            logged = run.summary.get("samples/step") if run.resumed else None
            self._step = int(logged) if isinstance(logged, int | float) else -1
        new = [row for row in rows if row["step"] > self._step][: MAX_ROWS - len(self._table.data)]
        if not new:
            return
        for row in new:
            self._table.add_data(row["step"], *(printable(row[name]) for name in SAMPLE_COLUMNS[1:]))
        self._step = new[-1]["step"]
        run.log({"samples/step": self._step, "samples/texts": self._table})


def decoding_table(run: RunFiles) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows of the decoding comparison: one row per moment and strategy."""
    keys = [key for metric in METRICS for key in (metric.key, f"{metric.key}_low", f"{metric.key}_high")]
    rows = []
    for moment in moments(run.decoding):
        for row in run.decoding[moment]:
            values: list[Any] = []
            for metric in METRICS:
                low, high = row.get(f"{metric.key}_interval") or (None, None)
                # W&B wants one type per column.
                values += [None if value is None else float(value) for value in (row.get(metric.key), low, high)]
            rows.append([moment, printable(row.get("strategy")), *values])
    return ["when", "strategy", *keys], rows[:MAX_ROWS]


def continuations_table(run: RunFiles) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows of the continuations: one row per prompt and sample, one column per moment and strategy."""
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
