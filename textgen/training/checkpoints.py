"""Checkpoints: written atomically, and verified by checksums before they are loaded.

    checkpoints/step-00000100/
        parameters.safetensors   the trainable parameters
        optimizer.safetensors    the optimizer's state, as "parameter/key"
        state.json               step, targets seen so far, best evaluation so far
        manifest.json            size and SHA-256 of each file above, the run's fingerprints, and a SHA-256 of itself

A checkpoint has no state of individual processes: data order and randomness depend on (seed, step) only, so any number
of processes can resume from it. It is written to a hidden directory, synced, read back and renamed; the manifest is
written last. Only then are older ones deleted.

If the model is sharded (FSDP), each process writes its shards: parameters-00001-of-00002.safetensors and so on. They
too can be read by any number of processes.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from textgen.disk import disk_error
from textgen.errors import Diverged, UserError
from textgen.files import user_path
from textgen.run.changes import Files as InputFiles
from textgen.run.changes import name_changes
from textgen.training.checkpoint_manifest import find_damage, read_manifest
from textgen.training.checkpoint_reader import NUMBER_SUFFIX, load_checkpoint, trainable_parameters
from textgen.training.checkpoint_writer import CheckpointWriter, Files, Place, own_copy, remove_unfinished
from textgen.training.distributed.deepspeed_zero import gather_state, is_zero_optimizer
from textgen.training.distributed.sharding import is_sharded, local_shard, shards_to_save
from textgen.training.microbatch_size import available_bytes
from textgen.training.precision import loss_scale
from textgen.training.tensor_files import safetensors_pieces
from textgen.training.train_state import TrainState

_SPARE = 1.25  # so much free memory, in sizes of a checkpoint, is needed to copy its tensors


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one run.

    Args:
        directory: the run's ``checkpoints`` directory.
        model: unwrapped.
        optimizer: the torch optimizer, unwrapped.
        fingerprints: identify what the checkpoints belong to; a resumed run must have the same ones.
        keep: number of recent checkpoints to keep in addition to the best; at least 1.
        scaler: with fp16, the gradient scaler, whose loss scale is saved and restored.
        extra: returns the names and contents of more files to save; called by the main process at each save.
        warn: called with a message when a checkpoint cannot be written, and training goes on; None: that is an error.
        background: write in a thread while training goes on, if the memory is enough for a copy of the tensors.
        writer: writes them.
        inputs: the files that the run reads (:mod:`textgen.run.changes`), to name those that changed.
    """

    directory: Path
    model: torch.nn.Module
    optimizer: torch.optim.Optimizer
    fingerprints: Mapping[str, str]
    keep: int = 2
    scaler: torch.amp.GradScaler | None = None
    extra: Callable[[], Mapping[str, bytes]] = field(default=dict)
    background: bool = False
    warn: Callable[[str], None] | None = None
    writer: CheckpointWriter = field(default_factory=CheckpointWriter, compare=False)
    inputs: Mapping[str, InputFiles] = field(default_factory=dict)

    def save(self, state: TrainState) -> Path:
        """Write ``step-XXXXXXXX``, and delete checkpoints that are neither recent nor the best.

        All processes call this. The main one writes; if processes hold shards of the model, each writes its own. With
        ``background``, it returns as soon as the tensors are copied; :meth:`wait` and the next call wait for the rest.

        Raises:
            Diverged: the weights are not finite; nothing was written or deleted.
            DiskError: this checkpoint, or in the background the previous one, cannot be written; unless ``warn`` is
                given.
        """
        _check_finite(self.model, state.step)
        self.wait()
        sharded, rank = is_sharded(self.model), dist.get_rank() if dist.is_initialized() else 0
        place = Place(self.directory, state.step)
        optimizer_tensors = _optimizer_tensors(self.model, self.optimizer)  # with ZeRO, all processes gather them
        if rank > 0 and not sharded:
            return place.final
        parameters = trainable_parameters(self.model)
        in_background = self.background and _copies_fit([*parameters.values(), *optimizer_tensors.values()], sharded)
        own = own_copy if in_background else None
        suffix = f"-{rank + 1:05d}-of-{dist.get_world_size():05d}" if sharded else ""
        files: Files = {}
        for kind, tensors in (("parameters", parameters), ("optimizer", optimizer_tensors)):
            gathered = kind == "optimizer" and is_zero_optimizer(self.optimizer)  # these are copies already
            shards = shards_to_save(tensors, None if gathered else own)
            files[f"{kind}{suffix}.safetensors"] = safetensors_pieces(*shards)
        if rank == 0:
            saved_state = asdict(state) | {"loss_scale": loss_scale(self.scaler)}
            small = {"state.json": (json.dumps(saved_state) + "\n").encode(), **self.extra()}
            files |= {name: [np.frombuffer(data, np.uint8)] for name, data in small.items()}
        with self._disk_errors():
            self.writer.start(
                place, files, fingerprints=self.fingerprints, state=state, keep=self.keep, sharded=sharded
            )
        if not in_background:
            self.wait()
        return place.final

    def poll(self) -> None:
        """Between two steps: complete a checkpoint that has been written in the background. All processes call this.

        Raises:
            DiskError: it could not be written, unless ``warn`` is given.
        """
        with self._disk_errors():
            self.writer.poll()

    def wait(self) -> None:
        """Wait until the last checkpoint is on disk. All processes call this.

        Raises:
            DiskError: it could not be written, unless ``warn`` is given.
        """
        with self._disk_errors():
            self.writer.wait()

    @contextmanager
    def _disk_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            found = disk_error(error, self.directory.parent, needed=self.writer.size)
            if found is None:
                raise
            if self.warn is None:
                raise found from None
            self.warn(f"warning: training continues without a checkpoint. {found}")

    def resume(self, source: str, echo: Callable[[str], None]) -> TrainState:
        """Load the checkpoint of :meth:`find`, if there is one, and return the state to continue from."""
        return self.load(self.find(source, echo), echo)

    def find(self, source: str, echo: Callable[[str], None]) -> Path | None:
        """The checkpoint to resume from: intact, and of this very run. Nothing is loaded.

        Args:
            source: the path of a checkpoint; or "auto" or "never" for the newest intact one of this run, if there is
                one. That of another run is left once this run has a later one of its own. Its settings may differ, as
                far as ``textgen.plan.resume`` has permitted.
            echo: prints a line for each damaged checkpoint that is skipped.

        Raises:
            UserError: the checkpoint belongs to other settings, data or another model; or ``source`` is damaged.
        """
        path = newest_checkpoint(self.directory, echo) if source in ("auto", "never") else self._named(source, echo)
        if path is None:
            return None
        saved = read_manifest(path)["fingerprints"]
        is_own = path.parent.resolve() == self.directory.resolve()
        changed = [
            name
            for name, value in self.fingerprints.items()
            # Checkpoints of earlier versions do not say which tokenizer it was.
            if saved.get(name, value if name == "tokenizer" else None) != value and (is_own or name != "settings")
        ]
        if changed:
            raise UserError(
                f"{path}: the {' and the '.join(changed)} changed since this checkpoint was written"
                f"{name_changes(path, changed, self.inputs)}, so the resumed run would differ from the original one. "
                "Restore them, or start a new run with --resume=never."
            )
        return path

    def _named(self, source: str, echo: Callable[[str], None]) -> Path:
        path = user_path(source, setting="--resume")
        if damage := find_damage(path):
            raise UserError(
                f"--resume {source}: {damage}. Choose another checkpoint, or use auto for the newest intact one."
            )
        if path.parent.resolve() == self.directory.resolve():
            return path
        own = newest_checkpoint(self.directory, echo)
        is_later = own is not None and read_manifest(own)["step"] > read_manifest(path)["step"]
        return own if own is not None and is_later else path

    def load(self, path: Path | None, echo: Callable[[str], None]) -> TrainState:
        """Load a checkpoint that :meth:`find` returned into model and optimizer; a new state if there is none."""
        if not dist.is_initialized() or dist.get_rank() == 0:
            remove_unfinished(self.directory)
        if path is None:
            return TrainState()
        state = load_checkpoint(path, self.model, self.optimizer, self.scaler)
        echo(f"resuming from {path}, after step {state.step}")
        return state


def newest_checkpoint(directory: Path, echo: Callable[[str], None]) -> Path | None:
    """The newest checkpoint whose checksums match, or None; damaged ones are skipped with a message."""
    for path in sorted(directory.glob("step-*"), reverse=True):
        damage = find_damage(path)
        if damage is None:
            return path
        echo(f"skipping damaged checkpoint {path.name}: {damage}")
    return None


def _copies_fit(tensors: Sequence[torch.Tensor], sharded: bool) -> bool:
    """Whether there is memory for copies, with something left; all processes that write agree."""
    needed = sum(shard.numel() * shard.element_size() for shard in map(local_shard, tensors))
    fit = torch.tensor(int(_SPARE * needed < available_bytes(torch.device("cpu"))))
    if sharded:
        fit = fit.to(tensors[0].device)
        dist.all_reduce(fit, dist.ReduceOp.MIN)
    return bool(fit)


def _check_finite(model: torch.nn.Module, step: int) -> None:
    # A sum is not finite if any of its terms is not, and takes one pass over the memory.
    sums = torch.stack([local_shard(p).detach().sum().float() for p in trainable_parameters(model).values()])
    finite = sums.isfinite().all()
    if is_sharded(model):
        found = finite.int()
        dist.all_reduce(found, dist.ReduceOp.MIN)
        finite = found.bool()
    if not finite:
        raise Diverged(
            f"step {step}: its update left weights that are not finite. Lower --learning-rate or --max-grad-norm. "
            "Every checkpoint is from before."
        )


def _optimizer_tensors(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The optimizer's state as "parameter/key"; numbers become tensors whose key ends in :data:`NUMBER_SUFFIX`."""
    tensors = {}
    states = gather_state(optimizer) if is_zero_optimizer(optimizer) else optimizer.state
    for name, parameter in trainable_parameters(model).items():
        for key, value in states.get(parameter, {}).items():
            if isinstance(value, torch.Tensor):
                tensors[f"{name}/{key}"] = value.detach()
            else:
                assert isinstance(value, int | float), f"optimizer state {key} is neither a tensor nor a number"
                tensors[f"{name}/{key}{NUMBER_SUFFIX}"] = torch.tensor(value)
    return tensors
