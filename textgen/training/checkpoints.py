"""Checkpoints: written atomically, and verified by checksums before they are loaded.

    checkpoints/step-00000100/
        parameters.safetensors   the trainable parameters
        optimizer.safetensors    the optimizer's state, as "parameter/key"
        state.json               step, targets seen so far, best evaluation so far
        manifest.json            size and SHA-256 of each file above, the run's fingerprints, and a SHA-256 of itself

A checkpoint has no state of individual processes: data order and randomness depend on (seed, step) only, so any number
of processes can resume from it. It is written to a hidden directory, synced, and renamed; the manifest is written last.

If the model is sharded (FSDP), each process writes its shards: parameters-00001-of-00002.safetensors and so on. They
too can be read by any number of processes.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from textgen.errors import UserError
from textgen.files import sync, user_path
from textgen.run.changes import Files, name_changes
from textgen.training.checkpoint_manifest import checksums, find_damage, read_manifest, write_manifest
from textgen.training.distributed.deepspeed_zero import gather_state, is_zero_optimizer, load_state
from textgen.training.distributed.sharding import ShardedTensors, is_sharded, local_shard, shard_as, write_shards
from textgen.training.precision import loss_scale, restore_loss_scale
from textgen.training.train_state import TrainState

NUMBER_SUFFIX = " (number)"


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
        inputs: the files that the run reads (:mod:`textgen.run.changes`), to name those that changed.
    """

    directory: Path
    model: torch.nn.Module
    optimizer: torch.optim.Optimizer
    fingerprints: Mapping[str, str]
    keep: int = 2
    scaler: torch.amp.GradScaler | None = None
    inputs: Mapping[str, Files] = field(default_factory=dict)

    def save(self, state: TrainState) -> Path:
        """Write ``step-XXXXXXXX``, and delete checkpoints that are neither recent nor the best.

        All processes call this. The main one writes; if processes hold shards of the model, each writes its own.
        """
        final = self.directory / f"step-{state.step:08d}"
        scratch = self.directory / f".step-{state.step:08d}.partial"
        sharded, rank = is_sharded(self.model), dist.get_rank() if dist.is_initialized() else 0
        optimizer_tensors = _optimizer_tensors(self.model, self.optimizer)  # with ZeRO, all processes gather them
        if rank > 0 and not sharded:
            return final
        if rank == 0:
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir(parents=True)
            saved_state = asdict(state) | {"loss_scale": loss_scale(self.scaler)}
            (scratch / "state.json").write_text(json.dumps(saved_state) + "\n", encoding="utf-8")
        if sharded:
            dist.barrier()
        suffix = f"-{rank + 1:05d}-of-{dist.get_world_size():05d}" if sharded else ""
        mine = [scratch / f"{kind}{suffix}.safetensors" for kind in ("parameters", "optimizer")]
        write_shards(mine[0], _trainable(self.model))
        write_shards(mine[1], optimizer_tensors)
        files = checksums([*mine, scratch / "state.json"] if rank == 0 else mine)
        if sharded:
            by_process: list[Any] = [None] * dist.get_world_size()
            dist.all_gather_object(by_process, files)
            files = {name: entry for of_process in by_process for name, entry in of_process.items()}
        if rank == 0:
            write_manifest(scratch, step=state.step, files=files, fingerprints=self.fingerprints)
            shutil.rmtree(final, ignore_errors=True)  # exists if the run was resumed from an earlier checkpoint
            scratch.rename(final)
            sync(self.directory)
            _delete_old(self.directory, state, self.keep)
        if sharded:
            dist.barrier()
        return final

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


def load_checkpoint(
    path: Path,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler | None = None,
) -> TrainState:
    """Load an intact checkpoint into model, optimizer and gradient scaler, and return the rest of its state."""
    parameters = _trainable(model)
    saved = ShardedTensors(sorted(path.glob("parameters*.safetensors")))
    assert saved.shapes.keys() == parameters.keys(), "equal fingerprints imply equal parameters"
    with torch.no_grad():
        for name, parameter in parameters.items():
            local_shard(parameter).copy_(saved.read(name, parameter))
    states = _read_optimizer_states(path, parameters)
    if is_zero_optimizer(optimizer):
        load_state(optimizer, states)
    else:
        for parameter, state in states.items():
            optimizer.state[parameter] = state
    rest = json.loads((path / "state.json").read_text(encoding="utf-8"))
    restore_loss_scale(scaler, rest.pop("loss_scale", None))
    return TrainState(**rest)


def _read_optimizer_states(
    path: Path, parameters: Mapping[str, torch.nn.Parameter]
) -> dict[torch.nn.Parameter, dict[str, Any]]:
    saved = ShardedTensors(sorted(path.glob("optimizer*.safetensors")))
    states: dict[torch.nn.Parameter, dict[str, Any]] = {}
    for name in saved.shapes:
        parameter_name, key = name.rsplit("/", 1)
        parameter = parameters[parameter_name]
        state = states.setdefault(parameter, {})
        value = saved.read(name, parameter)
        if key.endswith(NUMBER_SUFFIX):
            state[key.removesuffix(NUMBER_SUFFIX)] = value.item()
            continue
        value = value.to(_device(parameter, value))
        has_shape_of_parameter = (
            saved.shapes[name] == list(parameter.shape) and value.shape == local_shard(parameter).shape
        )
        state[key] = shard_as(value, parameter) if has_shape_of_parameter else value
    return states


def _device(parameter: torch.Tensor, value: torch.Tensor) -> torch.device:
    # Counters in float64 are those of schedule_free.py, which reads them on the CPU in every step. torch's own
    # optimizers keep theirs on the parameter's device.
    return torch.device("cpu") if value.dtype == torch.float64 else parameter.device


def _trainable(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}  # tied parameters appear once


def _optimizer_tensors(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The optimizer's state as "parameter/key"; numbers become tensors whose key ends in :data:`NUMBER_SUFFIX`."""
    tensors = {}
    states = gather_state(optimizer) if is_zero_optimizer(optimizer) else optimizer.state
    for name, parameter in _trainable(model).items():
        for key, value in states.get(parameter, {}).items():
            if isinstance(value, torch.Tensor):
                tensors[f"{name}/{key}"] = value.detach()
            else:
                assert isinstance(value, int | float), f"optimizer state {key} is neither a tensor nor a number"
                tensors[f"{name}/{key}{NUMBER_SUFFIX}"] = torch.tensor(value)
    return tensors


def _delete_old(directory: Path, state: TrainState, keep: int) -> None:
    existing = sorted(directory.glob("step-*"))
    kept = {path.name for path in existing[-keep:]} | {f"step-{state.best_step or 0:08d}", f"step-{state.step:08d}"}
    for path in existing:
        if path.name not in kept:
            # Renamed first, so that an interrupted deletion leaves nothing that looks like a checkpoint.
            deleted = path.with_name(f".{path.name}.partial")
            shutil.rmtree(deleted, ignore_errors=True)
            path.rename(deleted)
            shutil.rmtree(deleted, ignore_errors=True)
