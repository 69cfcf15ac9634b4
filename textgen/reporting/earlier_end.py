"""Removes from a run's record what it has only because the run was to end earlier than it does now.

The last step of a run is logged, evaluated and sampled whatever the intervals say. If the run goes on, the record gets
what it would have had without that end.
"""

from collections.abc import Mapping
from typing import Any

from textgen.reporting.jsonl import StepRecord
from textgen.reporting.results import EvaluationResults

Row = dict[str, Any]


def without_end(row: Row, intervals: Mapping[str, int]) -> Row | None:
    """What is left of the row of a last step once it is no longer the last; None if that is nothing.

    Args:
        row: a row of ``metrics.jsonl``.
        intervals: part of a row, "train" or "eval" → it is logged every so many steps; 0: only in the last.
    """
    missing = {part for part, every in intervals.items() if not _due(every, row["step"])}
    if "train/skipped" in row:  # such a step is logged wherever it is
        missing -= {"train"}
    left = {key: value for key, value in row.items() if key.split("/")[0] not in missing}
    return left if left.keys() != {"step"} else None


def remove_earlier_end(
    metrics: StepRecord,
    timing: StepRecord,
    samples: StepRecord,
    results: EvaluationResults,
    settings: Mapping[str, Any],
    *,
    step: int,
    total_steps: int,
) -> None:
    """Remove an earlier end of a run from its record; the record of a run that never ended stays as it is.

    Args:
        metrics: the metrics, up to the checkpoint that the run resumes from; ``timing`` and ``samples`` too.
        results: what was measured; the final measurement of a run that is not over is discarded.
        settings: the settings in force.
        step: the step that the run resumes from, which may have been the last one.
        total_steps: the step after which it ends now.
    """
    if not 0 < step < total_steps:
        return
    rows, times, texts = metrics.read(), timing.read(), samples.read()
    if rows and rows[-1]["step"] == step:
        left = without_end(rows[-1], {"train": settings["log_every"], "eval": settings["evaluate_every"]})
        if left != rows[-1]:
            metrics.replace(rows[:-1] + ([left] if left else []))
        if left is None:
            timing.replace([row for row in times if row["step"] != step])
    if texts and texts[-1]["step"] == step and not _due(settings["sample_every"], step):
        samples.replace([row for row in texts if row["step"] != step])
    results.discard("after", "difference")


def _due(every: int, step: int) -> bool:
    return every > 0 and step % every == 0
