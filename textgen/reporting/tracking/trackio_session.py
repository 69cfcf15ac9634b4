"""Trackio: a run in a directory beside the run directory, or wherever ``TRACKIO_DIR`` says."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from textgen.files import read_utf8
from textgen.printable import printable
from textgen.reporting.config import TrackingConfig
from textgen.reporting.results import RunFiles
from textgen.reporting.tracking.rows import TrackedRun, logged_values, result_values
from textgen.reporting.tracking.wandb_tables import SAMPLE_COLUMNS, SAMPLES, TABLES
from textgen.terminal import shown

_QUIET: dict[str, Any] = {
    "embed": False,
    "auto_log_gpu": False,
    "auto_log_cpu": False,
}  # system/* has what the record has


def prepare_trackio(tracked: TrackedRun) -> None:
    """Before the library is imported, which reads this once: where it keeps its runs."""
    os.environ.setdefault("TRACKIO_DIR", str(tracked.path.resolve().parent / "trackio"))


def start_trackio(
    tracked: TrackedRun, config: TrackingConfig, echo: Callable[[str], None], *, fallback: bool = True
) -> "TrackioSession":
    """Start a run, in the project that is called like the W&B project, from the first row.

    What was there of the same run before an interruption is replaced: the rows come again.
    """
    import trackio

    name = f"{tracked.name}-{tracked.id[:6]}"
    try:
        earlier = [run for run in trackio.Api().runs(config.wandb_project) if run.name == name]
    except ValueError:  # the project does not exist yet
        earlier = []
    for run in earlier:
        run.delete()
    return TrackioSession(trackio.init(config.wandb_project, name, config=tracked.config, **_QUIET), tracked)


class TrackioSession:
    """A :class:`textgen.reporting.tracking.mirror.Session` of Trackio.

    Args:
        run: the Trackio run.
        tracked: the run that it shows.
    """

    def __init__(self, run: Any, tracked: TrackedRun) -> None:
        self.logged_step = self.sampled_step = -1
        self._run, self._tracked = run, tracked

    def log(self, row: Mapping[str, Any]) -> None:
        """Send a row."""
        self._run.log(logged_values(row), step=int(row["step"]))

    def log_samples(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Send sample texts, as a table for each step."""
        import trackio

        for step in dict.fromkeys(int(row["step"]) for row in rows):
            data = [[printable(row[name]) for name in SAMPLE_COLUMNS] for row in rows if row["step"] == step]
            self._run.log({SAMPLES: trackio.Table(columns=[*SAMPLE_COLUMNS], data=data)}, step=step)

    def log_results(self, files: RunFiles) -> None:
        """Send every figure that was measured, at the last step, and the tables and the report."""
        import trackio

        values: dict[str, Any] = dict(result_values(files))
        for name, make in TABLES.items():
            columns, rows = make(files)
            if rows:
                values[name] = trackio.Table(columns=columns, data=rows)
        report = files.path / "report.html"
        if report.exists():
            values["report"] = trackio.Html(read_utf8(report), inject=False)
        self._run.log(values, step=int(files.metrics[-1]["step"]) if files.metrics else 0)

    def end(self, status: Mapping[str, Any]) -> None:
        """Send an alert if the run failed, and end the run."""
        import trackio

        if status.get("state") == "failed" and (message := status.get("message")):
            title = "Training diverged" if status.get("exit_code") == 3 else "Run failed"
            self._run.alert(title, shown(str(message)), level=trackio.AlertLevel.ERROR)
        self._run.finish()
