"""Loading a checkpoint, whose checksums were found to match, into a model and its optimizer."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from textgen.errors import UserError
from textgen.files import parse_json, read_bytes
from textgen.training.distributed.deepspeed_zero import is_zero_optimizer, load_state
from textgen.training.distributed.sharding import ShardedTensors, local_shard, shard_as
from textgen.training.precision import restore_loss_scale
from textgen.training.train_state import TrainState

NUMBER_SUFFIX = " (number)"
"""The end of an optimizer tensor's name that was a number."""


def trainable_parameters(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """The parameters that are trained, by name; tied ones appear once."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def load_checkpoint(
    path: Path,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler | None = None,
) -> TrainState:
    """Load an intact checkpoint into model, optimizer and gradient scaler, and return the rest of its state.

    Raises:
        UserError: its checksums match, but textgen did not write it, or not for this model.
    """
    parameters = trainable_parameters(model)
    saved = ShardedTensors(sorted(path.glob("parameters*.safetensors")))
    if saved.shapes != {name: list(parameter.shape) for name, parameter in parameters.items()}:
        raise _foreign(path, "other parameters than those that are trained")
    state, scale = _read_state(path)
    with torch.no_grad():
        for name, parameter in parameters.items():
            local_shard(parameter).copy_(saved.read(name, parameter))
    states = _read_optimizer_states(path, parameters)
    if is_zero_optimizer(optimizer):
        load_state(optimizer, states)
    else:
        for parameter, values in states.items():
            optimizer.state[parameter] = values
    restore_loss_scale(scaler, scale)
    return state


def _read_state(path: Path) -> tuple[TrainState, tuple[float, int] | None]:
    """The state in a checkpoint, and what :func:`loss_scale` returned."""
    file = path / "state.json"
    rest = parse_json(read_bytes(file), file)
    scale = rest.pop("loss_scale", None)
    try:
        return TrainState.from_json(rest), None if scale is None else (float(scale[0]), int(scale[1]))
    except (ValueError, TypeError, LookupError) as error:
        raise _foreign(path, f"state.json: {error}") from None


def _foreign(path: Path, why: str) -> UserError:
    return UserError(f"{path}: its checksums match, but it is not a checkpoint of this run ({why}). Move it away.")


def _read_optimizer_states(
    path: Path, parameters: Mapping[str, torch.nn.Parameter]
) -> dict[torch.nn.Parameter, dict[str, Any]]:
    saved = ShardedTensors(sorted(path.glob("optimizer*.safetensors")))
    states: dict[torch.nn.Parameter, dict[str, Any]] = {}
    for name in saved.shapes:
        parameter_name, _, key = name.rpartition("/")
        if parameter_name not in parameters:
            raise _foreign(path, f"optimizer: {name}")
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
