"""Whether what a run will write fits on its disk, estimated before it starts."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textgen.disk import free_bytes, in_words
from textgen.errors import UserError

# Bytes of optimizer state per trained parameter, at most.
_STATE = {"adamw": 8, "adamw8bit": 2.1, "muon": 8, "schedule_free": 8}
_BESIDES = 2  # checkpoints besides the recent ones: the best one, and the one that is being written


@dataclass(frozen=True)
class DiskNeeds:
    """What a run writes, in bytes.

    Attributes:
        checkpoint: size of a checkpoint.
        checkpoints: how many there are at the same time, at most.
        model: size of the exported model.
    """

    checkpoint: int
    checkpoints: int
    model: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.checkpoint * self.checkpoints + self.model

    def __str__(self) -> str:
        number = "1 checkpoint" if self.checkpoints == 1 else f"{self.checkpoints} checkpoints"
        return f"{number} of {in_words(self.checkpoint)}, and the model of {in_words(self.model)}"


def disk_needs(config: Any, parameters: int, adapted: int) -> DiskNeeds:
    """What a fine-tuning run writes, about.

    Args:
        config: the configuration of ``recipes/finetune.py``.
        parameters: number of parameters of the model.
        adapted: number of its weights that get an adapter.
    """
    full = config.model.method == "full"
    trained = parameters if full else _adapter_parameters(parameters, adapted, config.adapters.lora_rank)
    run, steps = config.run, config.training.steps
    checkpoints = run.keep_checkpoints + _BESIDES
    if not run.checkpoint_every and not run.evaluate_every:
        checkpoints = 1
    elif steps:
        due = [steps // every for every in (run.checkpoint_every, run.evaluate_every) if every]
        checkpoints = min(checkpoints, sum(due) + 1)
    return DiskNeeds(int(trained * (4 + _STATE[config.training.optimizer])), checkpoints, 4 * trained)


def _adapter_parameters(parameters: int, adapted: int, rank: int) -> int:
    """An estimate: a weight of the average size, four times as long as it is wide, gets rank × (length + width)."""
    return int(adapted * rank * 2.5 * math.sqrt(parameters / adapted)) if adapted else parameters // 100


def check_disk_space(config: Any, directory: Path, needs: DiskNeeds) -> None:
    """Check that a run's checkpoints and model fit into the free space of its disk.

    Args:
        config: the configuration of ``recipes/finetune.py``.
        directory: the run directory; what it contains already needs no more space.
        needs: what will be written.

    Raises:
        UserError: they do not fit; with numbers.
    """
    written = sum(path.stat().st_size for name in ("checkpoints", "model") for path in _files(directory / name))
    needed, free = needs.total - written, free_bytes(directory)
    if config.run.on_full_disk == "continue":  # then without checkpoints, but not without a model
        needed = needs.model - written
    if needed > free:
        raise UserError(
            f"--run-dir {directory}: about {in_words(needed)} is needed ({needs}), but {in_words(free)} is free on its "
            "disk. Free some space, choose a directory on another disk, or lower --keep-checkpoints "
            f"{config.run.keep_checkpoints}."
        )


def _files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]
