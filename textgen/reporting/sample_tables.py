"""What the model wrote while it learned, side by side: in the report, and as a table that grows on W&B."""

from collections.abc import Mapping, Sequence
from typing import Any

from textgen.reporting.wording import visible

STEPS_SHOWN = 5
MAX_ROWS = 10_000
"""Rows of a table on W&B; it takes no more."""

COLUMNS = ("step", "prompt_id", "prompt", "strategy", "text")


class GrowingTable:
    """The rows of ``samples.jsonl`` as a W&B table that gets longer: each call logs what is new, and no row twice."""

    def __init__(self) -> None:
        self._table: Any = None
        self._step = -1

    def log(self, run: Any, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add the rows of later steps than this W&B run has, resumed runs included."""
        import wandb

        if self._table is None:
            # Immutable, which is the default, would take the first rows and no more.
            self._table = wandb.Table(columns=[*COLUMNS], log_mode="INCREMENTAL")
            logged = run.summary.get("samples/step") if run.resumed else None
            self._step = int(logged) if isinstance(logged, int | float) else -1
        new = [row for row in rows if row["step"] > self._step][: MAX_ROWS - len(self._table.data)]
        if not new:
            return
        for row in new:
            self._table.add_data(row["step"], *(visible(row[name]) for name in COLUMNS[1:]))
        self._step = new[-1]["step"]
        run.log({"samples/step": self._step, "samples/texts": self._table})


def side_by_side(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each prompt a table: ``steps``, and ``rows`` of (strategy, its text at each of these steps or None).

    The first step, the last, and those between that are nearest to even distances: ``STEPS_SHOWN`` at most.
    """
    steps = _some(sorted({int(row["step"]) for row in rows}))
    prompts: dict[str, dict[str, Any]] = {}
    for row in rows:
        prompt = prompts.setdefault(str(row["prompt_id"]), {"text": row["prompt"], "by": {}})
        prompt["by"].setdefault(row["strategy"], {})[int(row["step"])] = row["text"]
    return [
        {
            "id": prompt_id,
            "text": prompt["text"],
            "steps": steps,
            "rows": [(strategy, [texts.get(step) for step in steps]) for strategy, texts in prompt["by"].items()],
        }
        for prompt_id, prompt in prompts.items()
    ]


def _some(steps: Sequence[int]) -> list[int]:
    if len(steps) <= STEPS_SHOWN:
        return list(steps)
    even = [steps[0] + (steps[-1] - steps[0]) * n / (STEPS_SHOWN - 1) for n in range(STEPS_SHOWN)]
    return sorted({min(steps, key=lambda step: (abs(step - place), step)) for place in even})
