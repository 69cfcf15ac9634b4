"""Writing a checkpoint in a thread: to a hidden directory, which is verified, then renamed; then old ones are deleted.

Training goes on meanwhile. If processes hold shards, each writes its own, and they agree between two steps that all are
written: collective operations of a thread would mix with those of training.
"""

import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist

from textgen.background import BackgroundTask
from textgen.files import sync
from textgen.training.checkpoint_manifest import write_manifest
from textgen.training.tensor_files import write_verified
from textgen.training.train_state import TrainState

_HIDDEN = re.compile(r"\.step-\d+\.(partial|replaced)")

Files = dict[str, Sequence[np.ndarray]]
"""Names and contents of files, uint8 in pieces."""

Entries = dict[str, dict[str, Any]]
"""Names of files and their entries in the manifest."""

T = TypeVar("T")


@dataclass(frozen=True)
class Place:
    """Where a checkpoint goes.

    Attributes:
        directory: the run's ``checkpoints`` directory.
        step: the step after which it is taken.
    """

    directory: Path
    step: int

    @property
    def final(self) -> Path:
        """The checkpoint's own directory."""
        return self.directory / f"step-{self.step:08d}"

    @property
    def scratch(self) -> Path:
        """Where it is written first."""
        return self.directory / f".step-{self.step:08d}.partial"


def own_copy(tensor: torch.Tensor) -> torch.Tensor:
    """A contiguous copy in the CPU's memory, which later steps do not change."""
    on_cpu = tensor.cpu()
    return on_cpu.clone(memory_format=torch.contiguous_format) if on_cpu is tensor else on_cpu.contiguous()


class CheckpointWriter:
    """Writes checkpoints in a thread, one at a time. All processes call its methods, in the same order.

    Attributes:
        size: bytes of this process's files of the last checkpoint.
    """

    def __init__(self) -> None:
        self._task = BackgroundTask()
        self._publish: Callable[[Entries], None] | None = None  # of shards; None while nothing is written
        self._scratch = Path()
        self.size = 0

    def start(
        self,
        place: Place,
        files: Files,
        *,
        fingerprints: Mapping[str, str],
        state: TrainState,
        keep: int,
        sharded: bool,
    ) -> None:
        """Begin to write a checkpoint; call :meth:`wait` before.

        Args:
            place: where it goes.
            files: this process's files. What is in memory must not change until :meth:`wait` returns.
            fingerprints: identify what the checkpoint belongs to.
            state: its state.
            keep: number of recent checkpoints to keep in addition to the best.
            sharded: whether all processes write files of this checkpoint, or this one only.

        Raises:
            OSError: of shards, that their directory cannot be created.
        """
        self.size = sum(len(piece) for pieces in files.values() for piece in pieces)
        publish = partial(_publish, place, fingerprints=dict(fingerprints), state=state, keep=keep)
        if sharded:  # the processes exchange the entries of their files: in the main thread, in poll or wait
            error = _try(partial(_make_scratch, place)) if dist.get_rank() == 0 else None
            _raise_any(_exchange(error))
            self._publish, self._scratch = publish, place.scratch
            self._task.start(partial(_write_files, place, files))
        else:
            self._task.start(partial(_write_all, place, files, publish))

    def poll(self) -> None:
        """Complete a checkpoint whose files are all written; between steps, this takes no time.

        Raises:
            OSError: it could not be written.
        """
        if not self._task.running:
            return
        finished = self._task.finished
        if self._publish:
            finished = all(_exchange(finished))
        if finished:
            self.wait()

    def wait(self) -> None:
        """Wait until what was started is on disk; returns at once if nothing is left to write.

        Raises:
            OSError: it could not be written, by this or another process.
        """
        if not self._publish:
            self._task.wait()
            return
        publish, self._publish = self._publish, None
        entries: Entries = {}
        error = _try(lambda: entries.update(self._task.wait()))
        try:
            outcomes = _exchange((entries, error))
            _raise_any([found for _, found in outcomes])
            every = {name: entry for one, _ in outcomes for name, entry in one.items()}
            _raise_any(_exchange(_try(lambda: publish(every)) if dist.get_rank() == 0 else None))
        except OSError:
            if dist.get_rank() == 0:
                shutil.rmtree(self._scratch, ignore_errors=True)  # it may fill the disk
            raise


Failure = tuple[Any, ...] | None
"""The arguments of an OSError, in a form that can be sent to other processes; None if there is none."""


def _try(work: Callable[[], Any]) -> Failure:
    try:
        work()
    except OSError as error:
        return (error.errno, error.strerror or str(error), error.filename)
    return None


def _raise_any(failures: Sequence[Failure]) -> None:
    for failure in failures:
        if failure:
            raise OSError(*failure)


def _exchange(value: T) -> list[T]:
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, value)
    return found


def _make_scratch(place: Place) -> None:
    remove_unfinished(place.directory)
    place.directory.mkdir(exist_ok=True)  # but not the run directory: if that is gone, it must not come back empty
    place.scratch.mkdir()


def _write_all(place: Place, files: Files, publish: Callable[[Entries], None]) -> None:
    try:
        _make_scratch(place)
        publish(_write_files(place, files))
    except BaseException:
        shutil.rmtree(place.scratch, ignore_errors=True)  # it may fill the disk
        raise


def _write_files(place: Place, files: Files) -> Entries:
    """Write files of a checkpoint, verified; returns their entries in the manifest."""
    return {name: write_verified(place.scratch / name, files[name]) for name in sorted(files)}


def _publish(place: Place, entries: Entries, *, fingerprints: Mapping[str, str], state: TrainState, keep: int) -> None:
    """Write the manifest of files that are all written, rename their directory, and delete old checkpoints."""
    final, scratch = place.final, place.scratch
    write_manifest(scratch, step=place.step, files=entries, fingerprints=fingerprints)
    if final.exists():  # the run was resumed from an earlier checkpoint; or from none, as all were damaged
        replaced = final.with_name(f".{final.name}.replaced")
        shutil.rmtree(replaced, ignore_errors=True)
        final.rename(replaced)
    scratch.rename(final)
    sync(place.directory)
    remove_unfinished(place.directory)
    _delete_old(place.directory, state, keep)


def remove_unfinished(directory: Path) -> None:
    """Delete what a process that was killed while it wrote or deleted checkpoints has left."""
    for path in directory.glob(".step-*"):
        if _HIDDEN.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)


def _delete_old(directory: Path, state: TrainState, keep: int) -> None:
    """Delete all but the last checkpoints up to the one just written, which was verified, and the best one.

    Later ones are left: they are of a run that went on from an earlier checkpoint, and will be written anew.
    """
    existing = sorted(path for path in directory.glob("step-*") if path.name <= f"step-{state.step:08d}")
    kept = {path.name for path in existing[-keep:]} | {f"step-{state.best_step or 0:08d}"}
    for path in existing:
        if path.name not in kept:
            # Renamed first, so that an interrupted deletion leaves nothing that looks like a checkpoint.
            deleted = path.with_name(f".{path.name}.partial")
            shutil.rmtree(deleted, ignore_errors=True)
            path.rename(deleted)
            shutil.rmtree(deleted, ignore_errors=True)
