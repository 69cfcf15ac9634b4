"""FSDP2: models whose parameters are sharded, and files of shards that any number of processes can read.

A file of shards is a plain safetensors file. Its metadata records, for each sharded tensor, the offset of the shard
along the first dimension and the shape of the full tensor; tensors without that entry are complete.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator
from safetensors import safe_open
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, Shard
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset


def is_sharded(model: torch.nn.Module) -> bool:
    """Whether the model's parameters are sharded over processes."""
    return any(isinstance(p, DTensor) for p in model.parameters())


def reshard(model: torch.nn.Module) -> None:
    """Free full parameters that a forward pass has gathered."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


@contextmanager
def unsharded(accelerator: Accelerator, model: torch.nn.Module) -> Iterator[None]:
    """Gather all parameters inside, so that every process can run the model alone; no effect if it is not sharded.

    Evaluation needs this: processes score different numbers of documents, but a sharded forward pass is collective.
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
            if module is not model:  # the root module is needed again as soon as the backward pass starts
                reshard_after_forward = accelerator.state.fsdp_plugin.reshard_after_forward
                module.set_reshard_after_forward(bool(reshard_after_forward), recurse=False)


def full_state(model: torch.nn.Module) -> dict[str, torch.Tensor] | None:
    """The gathered state dictionary of a sharded model, with adapters only their part; None if it is not sharded.

    All processes call it.
    """
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
        if id(parameter) not in gathered:  # tied parameters remain one tensor
            gathered[id(parameter)] = gather(tensor).cpu()
        state[name] = gathered[id(parameter)]
    return state


def gather(tensor: torch.Tensor) -> torch.Tensor:
    """The full tensor of a sharded one; any other tensor itself. All processes call it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def local_shard(tensor: torch.Tensor) -> torch.Tensor:
    """This process's shard of a tensor, sharing its memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def shard_as(shard: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A tensor that is sharded as ``like`` is, of which ``shard`` is this process's shard."""
    if not isinstance(like, DTensor):
        return shard
    mesh, placements = like.device_mesh, like.placements
    return DTensor.from_local(shard, mesh, placements, run_check=False, shape=like.shape, stride=like.stride())


def _shard_offset(tensor: torch.Tensor) -> int:
    """The index of the first row of this process's shard in the full tensor."""
    if not isinstance(tensor, DTensor):
        return 0
    assert all(not isinstance(p, Shard) or p.dim == 0 for p in tensor.placements), "FSDP2 shards dimension 0"
    _, offset = compute_local_shape_and_global_offset(tensor.shape, tensor.device_mesh, tensor.placements)
    return offset[0]


def shards_to_save(
    tensors: Mapping[str, torch.Tensor], own: Callable[[torch.Tensor], torch.Tensor] | None = None
) -> tuple[dict[str, torch.Tensor], dict[str, str] | None]:
    """This process's shards, contiguous in the CPU's memory, and the metadata of their file.

    The first process also has the tensors that are not sharded.

    Args:
        tensors: sharded and other tensors.
        own: makes the copy of a shard; None shares its memory if it can.
    """
    first = not dist.is_initialized() or dist.get_rank() == 0
    mine = {name: t.detach() for name, t in tensors.items() if isinstance(t, DTensor) or first}
    shards = {
        name: {"start": _shard_offset(t), "shape": list(t.shape)} for name, t in mine.items() if isinstance(t, DTensor)
    }
    metadata = {"parts": json.dumps(shards)} if shards else None
    copy = own or (lambda tensor: tensor.cpu().contiguous())
    return {name: copy(local_shard(tensor)) for name, tensor in mine.items()}, metadata


class ShardedTensors:
    """Tensors in files of :func:`shards_to_save`, written by any number of processes.

    Args:
        paths: the files of all processes.

    Attributes:
        shapes: shape of each full tensor, by name.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._shards: dict[str, list[tuple[int, Path]]] = {}
        self.shapes: dict[str, list[int]] = {}
        for path in paths:
            with safe_open(path, "pt") as file:
                shards = json.loads((file.metadata() or {}).get("parts", "{}"))
                for name in file.keys():  # noqa: SIM118  # not a dictionary
                    self._shards.setdefault(name, []).append((shards.get(name, {}).get("start", 0), path))
                    self.shapes[name] = shards.get(name, {}).get("shape") or file.get_slice(name).get_shape()

    def read(self, name: str, like: torch.Tensor | None = None) -> torch.Tensor:
        """Read a full tensor or, if ``like`` is a sharded tensor of the same shape, this process's shard of it."""
        shape = self.shapes[name]
        start, length = 0, shape[0] if shape else 0
        if isinstance(like, DTensor) and list(like.shape) == shape:
            start, length = _shard_offset(like), local_shard(like).shape[0]
        pieces: list[Any] = []
        for offset, path in sorted(self._shards[name]):
            with safe_open(path, "pt") as file:
                if not shape:
                    return file.get_tensor(name)
                shard = file.get_slice(name)
                low, high = max(start, offset), min(start + length, offset + shard.get_shape()[0])
                if low < high:
                    pieces.append(shard[low - offset : high - offset])
                elif not pieces:
                    empty = shard[0:0]
        return torch.cat(pieces) if pieces else empty
