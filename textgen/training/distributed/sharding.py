"""Tensors of which every process holds a part: which part, the whole of it, and files of parts that any number of
processes can read.

A file of parts is a plain safetensors file. Its metadata say of each tensor in it where along the first dimension it
begins and what shape the whole has; what stands there without that is a whole.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator
from safetensors import safe_open
from safetensors.torch import save_file
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, Shard
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset


def is_sharded(model: torch.nn.Module) -> bool:
    """Whether processes hold parts of the model's parameters."""
    return any(isinstance(p, DTensor) for p in model.parameters())


def reshard(model: torch.nn.Module) -> None:
    """Go back to holding parts, where a forward pass has gathered them."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


@contextmanager
def unsharded(accelerator: Accelerator, model: torch.nn.Module) -> Iterator[None]:
    """Inside, every process holds all of the model and may run it by itself; nothing happens where it does anyway.

    Evaluation needs that: processes score different numbers of documents, and a sharded forward pass waits for all.
    """
    modules = [module for module in model.modules() if isinstance(module, FSDPModule)]
    for module in modules:
        module.set_reshard_after_forward(False, recurse=False)
        module.unshard()
    try:
        yield
    finally:
        for module in modules:
            module.reshard()
            if module is not model:  # the outermost is needed again at once when the backward pass begins
                wanted = accelerator.state.fsdp_plugin.reshard_after_forward
                module.set_reshard_after_forward(bool(wanted), recurse=False)


def full_state(model: torch.nn.Module) -> dict[str, torch.Tensor] | None:
    """The state dictionary of a sharded model, gathered; of a model with adapters the trainable part only. None for a
    model that is not sharded. All processes call it."""
    if not is_sharded(model):
        return None
    parameters = dict(model.named_parameters(remove_duplicate=False))
    adapters_only = any(not p.requires_grad for p in parameters.values())
    gathered: dict[int, torch.Tensor] = {}
    state = {}
    for name, tensor in model.state_dict().items():
        parameter = parameters.get(name)
        if parameter is None or (adapters_only and not parameter.requires_grad):
            continue
        if id(parameter) not in gathered:  # tied ones stay one tensor
            gathered[id(parameter)] = gather(tensor).cpu()
        state[name] = gathered[id(parameter)]
    return state


def gather(tensor: torch.Tensor) -> torch.Tensor:
    """The whole of a tensor. All processes call it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def local(tensor: torch.Tensor) -> torch.Tensor:
    """This process's part of a tensor, sharing its memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def like(part: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    """A tensor that is distributed as ``tensor`` is, of which ``part`` is this process's part."""
    if not isinstance(tensor, DTensor):
        return part
    mesh, placements = tensor.device_mesh, tensor.placements
    return DTensor.from_local(part, mesh, placements, run_check=False, shape=tensor.shape, stride=tensor.stride())


def _start(tensor: torch.Tensor) -> int:
    """Where this process's part of a tensor begins, along the first dimension."""
    if not isinstance(tensor, DTensor):
        return 0
    assert all(not isinstance(p, Shard) or p.dim == 0 for p in tensor.placements), "FSDP2 cuts along dimension 0"
    _, offset = compute_local_shape_and_global_offset(tensor.shape, tensor.device_mesh, tensor.placements)
    return offset[0]


def write_parts(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write this process's parts of some tensors; of those that everybody holds whole, the first process writes all."""
    first = not dist.is_initialized() or dist.get_rank() == 0
    mine = {name: t.detach() for name, t in tensors.items() if isinstance(t, DTensor) or first}
    parts = {name: {"start": _start(t), "shape": list(t.shape)} for name, t in mine.items() if isinstance(t, DTensor)}
    metadata = {"parts": json.dumps(parts)} if parts else None
    payload: dict[str, torch.Tensor] = {}
    seen: set[int] = set()
    for name, tensor in mine.items():
        part = local(tensor).cpu().contiguous()
        payload[name] = part.clone() if part.data_ptr() in seen else part  # 8-bit optimizers share their code book
        seen.add(part.data_ptr())
    save_file(payload, path, metadata)


class Parts:
    """Files of :func:`write_parts`, of any number of processes, read as one.

    Args:
        paths: all of them.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._where: dict[str, list[tuple[int, Path]]] = {}
        self.shapes: dict[str, list[int]] = {}
        for path in paths:
            with safe_open(path, "pt") as file:
                parts = json.loads((file.metadata() or {}).get("parts", "{}"))
                for name in file.keys():  # noqa: SIM118  # not a dictionary
                    self._where.setdefault(name, []).append((parts.get(name, {}).get("start", 0), path))
                    self.shapes[name] = parts.get(name, {}).get("shape") or file.get_slice(name).get_shape()

    def read(self, name: str, target: torch.Tensor | None = None) -> torch.Tensor:
        """A tensor; or, where ``target`` is one of its shape, the part that this process holds of that."""
        shape = self.shapes[name]
        start, length = 0, shape[0] if shape else 0
        if target is not None and list(target.shape) == shape and isinstance(target, DTensor):
            start, length = _start(target), local(target).shape[0]
        pieces: list[Any] = []
        for begin, path in sorted(self._where[name]):
            with safe_open(path, "pt") as file:
                if not shape:
                    return file.get_tensor(name)
                piece = file.get_slice(name)
                low, high = max(start, begin), min(start + length, begin + piece.get_shape()[0])
                if low < high:
                    pieces.append(piece[low - begin : high - begin])
                elif not pieces:
                    empty = piece[0:0]
        return torch.cat(pieces) if pieces else empty
