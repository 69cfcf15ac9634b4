"""Sends the record of a run to trackers, after the run."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from textgen.errors import UserError
from textgen.files import RESTORE, read_utf8
from textgen.reporting.config import TrackingConfig
from textgen.reporting.results import RunFiles
from textgen.reporting.tracking.rows import TrackedRun, tracked_rows
from textgen.reporting.tracking.tracker import start_mirrors
from textgen.reporting.tracking.wandb_tables import SAMPLE_COLUMNS
from textgen.run.directory import RunDirectory
from textgen.run.manifest import damaged_files, read_manifest


def read_run(path: Path) -> RunFiles:
    """The files of a run, every one of them checked before anything is sent.

    Raises:
        UserError: one is damaged.
    """
    run = RunFiles.read(path)
    _check_steps(run)
    if lost := damaged_files(path, (read_manifest(path) or {"files": {}})["files"]):
        raise UserError(
            f"{path / lost[0]}: damaged: it is not what the run wrote. Run the command of the run again to restore it."
        )
    for number, row in enumerate(run.samples(), start=1):
        if missing := [name for name in SAMPLE_COLUMNS if name not in row]:
            raise UserError(f"{path / 'samples.jsonl'}, line {number}: has no {missing[0]!r}. {RESTORE}")
    for _ in run.continuations():
        pass
    if (path / "report.html").exists():
        read_utf8(path / "report.html")
    return run


def _check_steps(run: RunFiles) -> None:
    """Check that the record reaches the step that the run had when it ended."""
    ended, last = run.status.get("step", 0), int(run.metrics[-1]["step"]) if run.metrics else 0
    if run.status.get("state") == "done" and isinstance(ended, int) and last < ended:
        raise UserError(
            f"{run.path / 'metrics.jsonl'}: damaged: it ends at step {last}, and the run at step {ended}. Run the "
            "command of the run again to restore it, or restore the file."
        )


def tracking_id(run: RunFiles) -> str:
    """The id of a run on trackers: the one that it had while it was training, if it is known."""
    recorded = run.environment.get("tracking_id")
    if isinstance(recorded, str) and re.fullmatch(r"[0-9a-f]{12}", recorded):
        return recorded
    return RunDirectory(run.config, path=str(run.path), name="run").tracking_id()


def replay_run(
    run: RunFiles, config: TrackingConfig, echo: Callable[[str], None], *, timing: Sequence[Mapping[str, Any]] = ()
) -> None:
    """Send trackers the rows, samples and results of a run, as far as they lack them.

    Args:
        run: the run, from :func:`read_run`.
        config: names the trackers, and says how they are used; a mode that cannot be had is an error.
        echo: prints a message.
        timing: the rows of ``timing.jsonl``.

    Raises:
        UserError: a tracker did not take everything.
    """
    messages: list[str] = []
    tracked = TrackedRun(run.path, run.config, run.environment, tracking_id(run))
    rows, problems = tracked_rows(run.metrics, timing), []
    for mirror in start_mirrors(tracked, config, messages.append, fallback=False):
        for row in rows:
            mirror.log(row)
        mirror.log_samples(run.samples())
        mirror.finish(run.path)
        if mirror.problem:
            problems.append(
                f"{run.path}: not uploaded: {mirror.problem}. Repeat the command when it can be reached; what is there "
                "already is not sent again. For W&B, --wandb-mode offline writes an offline run instead."
            )
    if problems:
        raise UserError.of(problems)
    for message in messages:
        echo(message)
    if "wandb" in config.trackers and config.wandb_mode == "online":
        echo(f"W&B has all {len(rows):,} rows and the results of {run.path}, in the project {config.wandb_project}")
