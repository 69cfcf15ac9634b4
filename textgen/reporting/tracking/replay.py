"""Uploads the record of a run to W&B, after the run."""

import re
from collections.abc import Callable
from pathlib import Path

from textgen.errors import UserError
from textgen.files import RESTORE, read_utf8
from textgen.reporting.config import TrackingConfig, WandbMode
from textgen.reporting.results import RunFiles
from textgen.reporting.tracking.wandb_mirror import WandbMirror
from textgen.reporting.tracking.wandb_tables import SAMPLE_COLUMNS
from textgen.run.directory import RunDirectory


def read_run(path: Path) -> RunFiles:
    """The files of a run, every one of them checked before anything is sent.

    Raises:
        UserError: one is damaged.
    """
    run = RunFiles.read(path)
    _check_steps(run)
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
    """The id of a run's W&B run: the one that it had while it was training, if it is known."""
    recorded = run.environment.get("tracking_id")
    if isinstance(recorded, str) and re.fullmatch(r"[0-9a-f]{12}", recorded):
        return recorded
    return RunDirectory(run.config, path=str(run.path), name="run").tracking_id()


def replay_run(
    run: RunFiles, *, project: str | None, mode: WandbMode, timeout: float, echo: Callable[[str], None]
) -> None:
    """Send W&B the rows, samples and results of a run, as far as it lacks them.

    Args:
        run: the run, from :func:`read_run`.
        project: W&B project; that of the run by default.
        mode: "online", or "offline" to write a run for ``wandb sync``.
        timeout: the most seconds to wait.
        echo: prints a message.

    Raises:
        UserError: W&B did not take everything.
    """
    project = project or str(run.config.get("wandb_project") or TrackingConfig.wandb_project)
    messages: list[str] = []
    mirror = WandbMirror.start(
        run.path,
        run.config,
        run_id=tracking_id(run),
        project=project,
        mode=mode,
        name=run.path.resolve().name,
        echo=messages.append,
        timeout=timeout,
        fallback=False,
    )
    for row in run.metrics:
        mirror.log(row)
    mirror.log_samples(run.samples())
    mirror.finish(run.path)
    if mirror.problem:
        raise UserError(
            f"{run.path}: not uploaded: {mirror.problem}. Repeat the command when W&B can be reached; what it has "
            "already is not sent again. --wandb-mode offline writes an offline run instead."
        )
    for message in messages:
        echo(message)
    if mode == "online":
        echo(f"W&B has all {len(run.metrics):,} rows and the results of {run.path}, in the project {project}")
