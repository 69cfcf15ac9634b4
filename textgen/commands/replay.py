"""Upload the record of a run to Weights & Biases.

For a run whose tracking failed, was offline or was switched off; it needs nothing but the run directory. A run that is
there in part gets what it lacks, so repeating the command repeats nothing.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from textgen.config import at_least
from textgen.errors import UserError
from textgen.files import user_path
from textgen.run.lock import take_lock
from textgen.run.main import run_script


@dataclass(frozen=True)
class UploadConfig:
    """The run, and where it goes."""

    run: Annotated[str, Positional, arg(metavar="RUN")]
    """Directory of the run."""
    wandb_project: str | None = None
    """Weights & Biases project. Default: that of the run."""
    wandb_mode: Literal["online", "offline"] = "online"
    """offline: write an offline run for `wandb sync`, such as on a machine without a network."""
    wandb_timeout: int = 600
    """The most seconds to wait for W&B to take everything."""

    def problems(self) -> list[str]:
        """Invalid settings, one message each."""
        return at_least(self, {"wandb_timeout": 1})


@dataclass(frozen=True)
class ReplayConfig:
    upload: UploadConfig


def main(config: ReplayConfig) -> None:
    upload = config.upload
    if problems := upload.problems():
        raise UserError.of(problems)
    path = user_path(upload.run, setting="RUN")
    check_is_run(path)
    if not take_lock(path):
        raise UserError(f"{path}: another process is writing to this run. Wait until it has ended.")

    from textgen.reporting.tracking.replay import read_run, replay_run  # imports torch

    run = read_run(path)
    replay_run(run, project=upload.wandb_project, mode=upload.wandb_mode, timeout=upload.wandb_timeout, echo=print)
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
