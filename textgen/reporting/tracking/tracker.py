"""Starts the experiment tracker that ``--track`` names, and says what every tracker can do."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from textgen.reporting.config import TrackingConfig
from textgen.reporting.tracking.wandb_mirror import WandbMirror
from textgen.run.directory import RunDirectory

Echo = Callable[[str], None]


class Tracker(Protocol):
    """What the run log calls, on the main process only, after the same data is in the run directory."""

    def log(self, row: Mapping[str, Any]) -> None:
        """Get a row of ``metrics.jsonl``; after a resume, all rows come again."""

    def log_samples(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Get rows of ``samples.jsonl``; after a resume, all rows come again."""

    def finish(self, run_dir: Path) -> None:
        """Get the results of a finished run from its files, and end."""


class NoTracker:
    """``--track none``, and every process but the main one."""

    def log(self, row: Mapping[str, Any]) -> None:
        """Do nothing."""

    def log_samples(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Do nothing."""

    def finish(self, run_dir: Path) -> None:
        """Do nothing."""


def start_tracker(directory: RunDirectory, config: TrackingConfig, echo: Echo) -> Tracker:
    """Start or resume the run of a run directory on its tracker. On the main process only.

    Args:
        directory: the run directory.
        config: names the tracker.
        echo: prints a message.
    """
    return TRACKERS[config.track](directory, config, echo)


def _start_wandb(directory: RunDirectory, config: TrackingConfig, echo: Echo) -> Tracker:
    return WandbMirror.start(
        directory.path,
        directory.settings,
        run_id=directory.tracking_id(),
        project=config.wandb_project,
        mode=config.wandb_mode,
        name=directory.path.name,
        echo=echo,
        timeout=config.wandb_timeout,
    )


# A value of `--track` → the function that starts such a tracker.
TRACKERS: dict[str, Callable[[RunDirectory, TrackingConfig, Echo], Tracker]] = {
    "wandb": _start_wandb,
    "none": lambda directory, config, echo: NoTracker(),
}
