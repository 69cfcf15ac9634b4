"""Starts the experiment trackers that ``--track`` names, and says what every tracker can do."""

import contextlib
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from textgen.reporting.config import PACKAGES, TrackingConfig
from textgen.reporting.tracking.mirror import Mirror, Session
from textgen.reporting.tracking.mlflow_session import prepare_mlflow, start_mlflow
from textgen.reporting.tracking.rows import TrackedRun
from textgen.reporting.tracking.tensorboard_session import start_tensorboard
from textgen.reporting.tracking.trackio_session import prepare_trackio, start_trackio
from textgen.reporting.tracking.wandb_run import is_disabled, stop_service
from textgen.reporting.tracking.wandb_session import start_wandb
from textgen.run.directory import RunDirectory

Echo = Callable[[str], None]


class Tracker(Protocol):
    """What the run log calls, on the main process only, after the same data is in the run directory."""

    def log(self, row: Mapping[str, Any]) -> None:
        """Get a row as :func:`textgen.reporting.tracking.rows.tracked_row` makes it; after a resume, all come again."""

    def log_samples(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Get rows of ``samples.jsonl``; after a resume, all rows come again."""

    def finish(self, run_dir: Path) -> None:
        """Get the results of a finished run from its files, and end."""


class Trackers:
    """Any number of trackers as one: none for ``--track none``, and on every process but the main one."""

    def __init__(self, trackers: Sequence[Tracker] = ()) -> None:
        self.trackers = [*trackers]

    def log(self, row: Mapping[str, Any]) -> None:
        """Give a row to each."""
        for tracker in self.trackers:
            tracker.log(row)

    def log_samples(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Give sample texts to each."""
        for tracker in self.trackers:
            tracker.log_samples(rows)

    def finish(self, run_dir: Path) -> None:
        """End each, one after the other."""
        for tracker in self.trackers:
            tracker.finish(run_dir)


@dataclass(frozen=True)
class Library:
    """A library that tracks experiments."""

    name: str
    """Its name in messages."""
    start: Callable[..., Session | None]
    """Starts a run, given the tracked run, the settings and what prints a message; called on a thread. With
    ``fallback=False`` it raises rather than do something else than requested."""
    prepare: Callable[[TrackedRun], None] = lambda tracked: None
    """What must be done before it is imported."""
    stop: Callable[[], None] = lambda: None
    """Ends what it left running, once it is given up."""


# A value of `--track` → the library.
TRACKERS: dict[str, Library] = {
    "wandb": Library("W&B", start_wandb, stop=stop_service),
    "tensorboard": Library("TensorBoard", start_tensorboard),
    "trackio": Library("Trackio", start_trackio, prepare=prepare_trackio),
    "mlflow": Library("MLflow", start_mlflow, prepare=lambda tracked: prepare_mlflow()),
}


def start_tracker(directory: RunDirectory, config: TrackingConfig, echo: Echo) -> Trackers:
    """Start or resume the run of a run directory on its trackers. On the main process only; never raises or waits.

    Args:
        directory: the run directory, with its ``environment.json``.
        config: names the trackers.
        echo: prints a message.
    """
    return Trackers(start_mirrors(TrackedRun.of(directory), config, echo) if config.trackers else ())


def start_mirrors(tracked: TrackedRun, config: TrackingConfig, echo: Echo, **options: Any) -> list[Mirror]:
    """Start a run on each tracker that is not switched off; ``options`` are those of :attr:`Library.start`."""
    names = [name for name in config.trackers if name != "wandb" or not is_disabled(config.wandb_mode)]
    for name in names:
        TRACKERS[name].prepare(tracked)
        # Two threads that import modules at once may see half of one, so this thread does it before others begin. What
        # is wrong with a library shows when its run starts.
        with contextlib.suppress(Exception):
            importlib.import_module(PACKAGES[name])
    return [_mirror(name, tracked, config, echo, options) for name in names]


def _mirror(name: str, tracked: TrackedRun, config: TrackingConfig, echo: Echo, options: Mapping[str, Any]) -> Mirror:
    library = TRACKERS[name]
    return Mirror(
        library.name,
        partial(library.start, tracked, config, echo, **options),
        tracked.path,
        echo,
        timeout=config.wandb_timeout,
        replay=f"textgen replay {tracked.path}{'' if name == 'wandb' else f' --track {name}'}",
        stop=library.stop,
    )
