"""Checkpoints: written whole or not at all, checked byte for byte before they are believed.

    checkpoints/step-00000100/
        parameters.safetensors   the trainable parameters
        optimizer.safetensors    the optimizer's tensors, "parameter.key"
        state.json               step, targets seen so far, best evaluation so far
        manifest.json            size and SHA-256 of each of the above, the fingerprints of what they belong to, and a
                                 SHA-256 of its own

A checkpoint holds nothing of a process: order and randomness follow from (seed, step), so any number of processes can
go on from it. It is written into a hidden directory, synced, and renamed; its manifest comes last.

Where processes hold parts of the model (FSDP), each writes its own: parameters-00001-of-00002.safetensors and so on,
which say what part of the whole they are. They too can be read by any number of processes.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from textgen.errors import UserError
from textgen.files import sync
from textgen.training.distributed.deepspeed_zero import gathered_state, is_zero, put_state
from textgen.training.distributed.sharding import Parts, is_sharded, like, local, write_parts

FORMAT = 1
NUMBER = " (number)"


@dataclass(frozen=True)
class TrainState:
    """All of a run that is not a tensor.

    Attributes:
        step: the last step that was taken.
        targets: target tokens trained on so far.
        best_step: the step with the lowest evaluation so far, if any.
        best_value: that evaluation, in bits per byte.
        loss_scale: with fp16, what losses are multiplied by, and the steps since that was changed.
    """

    step: int = 0
    targets: int = 0
    best_step: int | None = None
    best_value: float | None = None
    loss_scale: tuple[float, int] | None = None

    def after(self, step: int, targets: int, loss_scale: tuple[float, int] | None) -> "TrainState":
        """The state after one more step, on so many more targets."""
        return replace(self, step=step, targets=self.targets + targets, loss_scale=loss_scale)

    def evaluated(self, value: float) -> "TrainState":
        """The state with an evaluation of this step, in bits per byte; remembered if it is the best so far."""
        if self.best_value is not None and value >= self.best_value:
            return self
        return replace(self, best_step=self.step, best_value=value)

    @property
    def is_best(self) -> bool:
        """Whether this step has the best evaluation so far."""
        return self.best_step == self.step


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one run.

    Args:
        directory: the run's ``checkpoints`` directory.
        model: unwrapped.
        optimizer: the torch optimizer, unwrapped.
        fingerprints: what the checkpoints belong to; a resumed run must have the same ones.
        keep: number of recent checkpoints to keep in addition to the best; at least 1.
    """

    directory: Path
    model: torch.nn.Module
    optimizer: torch.optim.Optimizer
    fingerprints: Mapping[str, str]
    keep: int = 2

    def save(self, state: TrainState) -> Path:
        """Write ``step-XXXXXXXX``, and delete checkpoints that are neither recent nor the best.

        All processes call this. The main one writes; if processes hold shards of the model, each writes its own.
        """
        final = self.directory / f"step-{state.step:08d}"
        scratch = self.directory / f".step-{state.step:08d}.partial"
        sharded, rank = is_sharded(self.model), dist.get_rank() if dist.is_initialized() else 0
        optimizer_tensors = _optimizer_tensors(self.model, self.optimizer)  # with ZeRO, all processes put them together
        if rank > 0 and not sharded:
            return final
        if rank == 0:
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir(parents=True)
            (scratch / "state.json").write_text(json.dumps(asdict(state)) + "\n")
        if sharded:
            dist.barrier()
        part = f"-{rank + 1:05d}-of-{dist.get_world_size():05d}" if sharded else ""
        mine = [scratch / f"{kind}{part}.safetensors" for kind in ("parameters", "optimizer")]
        write_parts(mine[0], _trainable(self.model))
        write_parts(mine[1], optimizer_tensors)
        files = _described([*mine, scratch / "state.json"] if rank == 0 else mine)
        if sharded:
            everybody: list[Any] = [None] * dist.get_world_size()
            dist.all_gather_object(everybody, files)
            files = {name: facts for part_of in everybody for name, facts in part_of.items()}
        if rank == 0:
            manifest = {"format": FORMAT, "step": state.step, "files": files, "fingerprints": dict(self.fingerprints)}
            (scratch / "manifest.json").write_text(_sealed(manifest))
            sync(scratch / "manifest.json")
            sync(scratch)
            shutil.rmtree(final, ignore_errors=True)  # from before a resume that went back behind it
            scratch.rename(final)
            sync(self.directory)
            _prune(self.directory, state, self.keep)
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
                one.
            echo: prints a line for each damaged checkpoint that is skipped.

        Raises:
            UserError: the checkpoint belongs to other settings, data or another model; or ``source`` is damaged.
        """
        if source in ("auto", "never"):
            path = newest_checkpoint(self.directory, echo)
        else:
            path = Path(source)
            if damage := find_damage(path):
                raise UserError(
                    f"--resume {source}: {damage}. Choose another checkpoint, or use auto for the newest intact one."
                )
        if path is None:
            return None
        theirs = read_manifest(path)["fingerprints"]
        changed = [name for name, value in self.fingerprints.items() if theirs.get(name) != value]
        if changed:
            raise UserError(
                f"{path}: the {' and the '.join(changed)} changed since this checkpoint was written, so the resumed "
                "run would differ from the original one. Restore them, or start a new run with --resume=never."
            )
        return path

    def load(self, path: Path | None, echo: Callable[[str], None]) -> TrainState:
        """Load a checkpoint that :meth:`find` found into model and optimizer; a new state if there is none."""
        if path is None:
            return TrainState()
        state = load_checkpoint(path, self.model, self.optimizer)
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


def find_damage(path: Path) -> str | None:
    """What is wrong with a checkpoint, or None if all of it is as it was written."""
    try:
        manifest = read_manifest(path)
        del manifest["sha256"]
        if (path / "manifest.json").read_text() != _sealed(manifest):
            return "its manifest.json is not as it was written"
        for name, expected in manifest["files"].items():
            file = path / name
            if not file.is_file():
                return f"{name} is missing"
            if file.stat().st_size != expected["size"] or _sha256(file) != expected["sha256"]:
                return f"{name} is not as it was written"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "its manifest.json cannot be read"
    return None


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a checkpoint that :func:`find_damage` found sound."""
    return json.loads((path / "manifest.json").read_text())


def load_checkpoint(path: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> TrainState:
    """Put a sound checkpoint's parameters and optimizer tensors in place, and return the rest."""
    saved = Parts(sorted(path.glob("parameters*.safetensors")))
    parameters = _trainable(model)
    assert saved.shapes.keys() == parameters.keys(), "the fingerprints agreed, so the parameters must"
    with torch.no_grad():
        for name, parameter in parameters.items():
            local(parameter).copy_(saved.read(name, parameter))
    tensors = Parts(sorted(path.glob("optimizer*.safetensors")))
    states: dict[torch.nn.Parameter, dict[str, Any]] = {}
    for key in tensors.shapes:
        name, what = key.rsplit("/", 1)
        parameter = parameters[name]
        value = tensors.read(key, parameter)
        if what.endswith(NUMBER):
            states.setdefault(parameter, {})[what.removesuffix(NUMBER)] = value.item()
            continue
        value = value.to(_device(parameter, value))
        whole = tensors.shapes[key] == list(parameter.shape) and value.shape == local(parameter).shape
        states.setdefault(parameter, {})[what] = like(value, parameter) if whole else value
    if is_zero(optimizer):
        put_state(optimizer, states)
    else:
        for parameter, state in states.items():
            optimizer.state[parameter] = state
    state = json.loads((path / "state.json").read_text())
    return TrainState(**state | {"loss_scale": tuple(state["loss_scale"]) if state.get("loss_scale") else None})


def _device(parameter: torch.Tensor, value: torch.Tensor) -> torch.device:
    # Counters of 64 bits are ours, and read on the host at every step; torch keeps its own with the parameter.
    return torch.device("cpu") if value.dtype == torch.float64 else parameter.device


def _trainable(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}  # tied ones once, so re-tying is free


def _optimizer_tensors(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The optimizer's state, "parameter/key"; plain numbers as tensors whose key ends in :data:`NUMBER`."""
    tensors = {}
    states = gathered_state(optimizer) if is_zero(optimizer) else optimizer.state
    for name, parameter in _trainable(model).items():
        for key, value in states.get(parameter, {}).items():
            if isinstance(value, torch.Tensor):
                tensors[f"{name}/{key}"] = value.detach()
            else:
                assert isinstance(value, int | float), f"optimizer state {key} is neither a tensor nor a number"
                tensors[f"{name}/{key}{NUMBER}"] = torch.tensor(value)
    return tensors


def _described(paths: list[Path]) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of files, which are on the disk for good when this returns."""
    for path in paths:
        sync(path)
    return {path.name: {"size": path.stat().st_size, "sha256": _sha256(path)} for path in sorted(paths)}


def _prune(directory: Path, state: TrainState, keep: int) -> None:
    there = sorted(directory.glob("step-*"))
    wanted = {path.name for path in there[-keep:]} | {f"step-{state.best_step or 0:08d}", f"step-{state.step:08d}"}
    for path in there:
        if path.name not in wanted:
            # Renamed first, so that a deletion that is cut short leaves nothing that looks like a checkpoint.
            doomed = path.with_name(f".{path.name}.partial")
            shutil.rmtree(doomed, ignore_errors=True)
            path.rename(doomed)
            shutil.rmtree(doomed, ignore_errors=True)


def _sealed(manifest: dict[str, Any]) -> str:
    """A manifest's text, with a SHA-256 of its own: a flipped bit in it must read as damage, not as other settings."""
    digest = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    return json.dumps(manifest | {"sha256": digest}, indent=2) + "\n"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
