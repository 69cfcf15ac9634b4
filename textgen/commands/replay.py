"""Send the record of a run to Weights & Biases, or to other trackers.

For a run whose tracking failed, was offline or was switched off; it needs nothing but the run directory. A run that is
there in part gets what it lacks, so repeating the command repeats nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from textgen.errors import UserError
from textgen.files import user_path
from textgen.reporting.config import TrackingConfig
from textgen.run.lock import take_lock
from textgen.run.main import run_script


@dataclass(frozen=True)
class UploadConfig:
    """The run, and where it goes."""

    run: Annotated[str, Positional, arg(metavar="RUN")]
    """Directory of the run."""
    track: str = "wandb"
    """Trackers, separated by commas: wandb, tensorboard, trackio, mlflow."""
    wandb_project: str | None = None
    """Weights & Biases project; also Trackio's project and MLflow's experiment. Default: that of the run."""
    wandb_mode: Literal["online", "offline"] = "online"
    """offline: write an offline run for `wandb sync`, such as on a machine without a network."""
    wandb_timeout: int = 600
    """The most seconds to wait for a tracker to take everything."""

    def tracking(self, recorded: Mapping[str, Any]) -> TrackingConfig:
        """What trackers are to do, with the run's own settings where none is given."""
        names = {field.name for field in fields(TrackingConfig)}
        own = {name: value for name, value in recorded.items() if name in names and value is not None}
        given = {"track": self.track, "wandb_mode": self.wandb_mode, "wandb_timeout": self.wandb_timeout}
        project = {"wandb_project": self.wandb_project} if self.wandb_project else {}
        return TrackingConfig(**(own | given | project))


@dataclass(frozen=True)
class ReplayConfig:
    upload: UploadConfig


def main(config: ReplayConfig) -> None:
    upload = config.upload
    if problems := upload.tracking({}).problems():
        raise UserError.of(problems)
    path = user_path(upload.run, setting="RUN")
    check_is_run(path)
    if not take_lock(path):
        raise UserError(f"{path}: another process is writing to this run. Wait until it has ended.")

    from textgen.reporting.jsonl import read_rows
    from textgen.reporting.tracking.replay import read_run, replay_run  # imports torch

    run = read_run(path)
    replay_run(run, upload.tracking(run.config), print, timing=read_rows(path / "timing.jsonl"))
    if run.status.get("state") != "done":
        print("The run has not finished: repeat this when it has.")


def check_is_run(path: Path) -> None:
    """Check that a directory is that of a run.

    Raises:
        UserError: it is not.
    """
    try:
        is_directory, is_run = path.is_dir(), (path / "config.yaml").is_file()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}.") from None
    if not is_directory:
        raise UserError(f"{path}: there is no such directory. Give the directory of a run, such as runs/NAME.")
    if not is_run:
        raise UserError(f"{path}: holds no run (no config.yaml). Give the directory that --run-dir named.")


def run() -> None:
    """Parse the command line, replay, and exit with the documented code."""
    run_script(ReplayConfig, main, description=__doc__ or "")
