"""DeepSpeed's ZeRO, stages 1 and 2: every process has all weights, and a shard of the optimizer's state.

Three things differ from DeepSpeed's defaults. Gradients are accumulated over a step's microbatches and clipped once, as
with every other launcher. Weights stay in float32, and matrix multiplications are in the requested precision. And a
checkpoint has each parameter's own state, in plain files, where DeepSpeed would pickle flat shards of many parameters.
"""

import importlib.util
import logging
import os
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedType

from textgen.errors import UserError


def start_on_cpu(accelerator: Accelerator) -> None:
    """Make Accelerate, which uses DeepSpeed on GPUs only, use it on a CPU."""
    from accelerate.utils import DeepSpeedPlugin
    from deepspeed import comm

    comm.init_distributed(dist_backend="gloo", auto_mpi_discovery=False)
    plugin = DeepSpeedPlugin()  # configured by the launch file's environment variables
    accelerator.state.deepspeed_plugins = {"default": plugin}
    accelerator.state.distributed_type = DistributedType.DEEPSPEED
    PartialState._shared_state["distributed_type"] = DistributedType.DEEPSPEED
    plugin.select(_from_accelerator_state=True)


def configure(accelerator: Accelerator, *, max_grad_norm: float) -> None:
    """Configure DeepSpeed, before the model is prepared.

    Raises:
        UserError: the launch file asks for a stage that shards the weights.
    """
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    settings = accelerator.state.deepspeed_plugin.deepspeed_config
    _check_stage(str(settings["zero_optimization"]["stage"]))
    settings["gradient_accumulation_steps"] = 1
    settings["gradient_clipping"] = max_grad_norm  # DeepSpeed clips and updates weights inside the last backward pass
    settings["train_micro_batch_size_per_gpu"] = 1  # required, but has no effect here


def check_settings(precision: str) -> None:
    """Check that DeepSpeed supports the settings, before a model is loaded, which stage 3 would shard.

    Raises:
        UserError: it does not, or it is not installed.
    """
    _check_stage(os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2"))
    if importlib.util.find_spec("deepspeed") is None:
        raise UserError("the launch file uses DeepSpeed, which is not installed. Run: pip install 'textgen[deepspeed]'")
    if precision == "fp16":
        raise UserError(
            "--precision fp16 with DeepSpeed: it skips steps whose gradients overflow, and so data. Use bf16 or fp32, "
            "or launch/fsdp2.yaml."
        )


def _check_stage(stage: str) -> None:
    if stage not in ("1", "2"):
        raise UserError(
            f"the launch file uses ZeRO stage {stage}, which is not supported. Use stage 2, as in "
            "launch/deepspeed_zero2.yaml, or launch/fsdp2.yaml to shard the weights too."
        )


def is_zero_optimizer(optimizer: Any) -> bool:
    """Whether this is DeepSpeed's wrapper of an optimizer."""
    return hasattr(optimizer, "single_partition_of_fp32_groups")


def _fragments(optimizer: Any) -> Iterator[tuple[torch.nn.Parameter, torch.Tensor, Any]]:
    """Every parameter, this process's flat partition of its group, and DeepSpeed's mapping between the two.

    The mapping is None if the partition contains no part of the parameter.
    """
    for partition, parameters in zip(optimizer.single_partition_of_fp32_groups, optimizer.bit16_groups, strict=True):
        for parameter in parameters:
            yield parameter, partition, parameter._hp_mapping


def gather_state(optimizer: Any) -> dict[torch.nn.Parameter, dict[str, torch.Tensor]]:
    """The full state of every parameter, on every process, as the optimizer would have it without DeepSpeed."""
    full: dict[torch.nn.Parameter, dict[str, torch.Tensor]] = {}
    for parameter, partition, mapping in _fragments(optimizer):
        full[parameter] = {}
        for key, flat in optimizer.optimizer.state[partition].items():
            if flat.dim() == 0:
                full[parameter][key] = flat.detach().clone()
                continue
            value = torch.zeros(parameter.numel(), dtype=flat.dtype, device=flat.device)
            if mapping is not None:
                in_flat, in_parameter = mapping.hp_fragment_address, mapping.lp_fragment_address
                fragment = flat.narrow(0, in_flat.start, in_flat.numel)
                value.narrow(0, in_parameter.start, in_parameter.numel).copy_(fragment)
            dist.all_reduce(value)  # the other processes have the other fragments, and zeros here
            full[parameter][key] = value.view_as(parameter)
    return full


def load_state(optimizer: Any, full: dict[torch.nn.Parameter, dict[str, torch.Tensor]]) -> None:
    """Load what :func:`gather_state` returned, on any number of processes. Load the weights before."""
    for partition in optimizer.single_partition_of_fp32_groups:
        optimizer.optimizer.state[partition] = {}
    for parameter, partition, mapping in _fragments(optimizer):
        state = optimizer.optimizer.state[partition]
        for key, value in full[parameter].items():
            if value.dim() == 0:
                state[key] = value.to(partition.device)
                continue
            flat = state.setdefault(key, torch.zeros_like(partition, dtype=value.dtype))
            if mapping is not None:
                in_flat, in_parameter = mapping.hp_fragment_address, mapping.lp_fragment_address
                fragment = value.reshape(-1).narrow(0, in_parameter.start, in_parameter.numel)
                flat.narrow(0, in_flat.start, in_flat.numel).copy_(fragment)
    optimizer.refresh_fp32_params()  # copies the weights into the float32 partitions that are updated
