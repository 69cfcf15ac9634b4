"""DeepSpeed's ZeRO, stages 1 and 2: every process holds all of the weights, and a part of the optimizer's state.

Of three things that DeepSpeed would do otherwise, this takes care: gradients add up over a step's microbatches and are
clipped once, as everywhere else; weights stay in float32 and products are taken in the precision that was asked for;
and a checkpoint holds each parameter's own state, in plain files, where DeepSpeed would pickle flat pieces of many.
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
    """Have Accelerate, which takes DeepSpeed to GPUs alone, use it on a CPU by the same code."""
    from accelerate.utils import DeepSpeedPlugin
    from deepspeed import comm

    comm.init_distributed(dist_backend="gloo", auto_mpi_discovery=False)
    plugin = DeepSpeedPlugin()  # from what the launch file put into the environment
    accelerator.state.deepspeed_plugins = {"default": plugin}
    accelerator.state.distributed_type = DistributedType.DEEPSPEED
    PartialState._shared_state["distributed_type"] = DistributedType.DEEPSPEED
    plugin.select(_from_accelerator_state=True)


def configure(accelerator: Accelerator, *, max_grad_norm: float) -> None:
    """Tell DeepSpeed what is this project's own to decide, before the model is prepared.

    Raises:
        UserError: the launch file asks for a stage that cuts up the weights.
    """
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    settings = accelerator.state.deepspeed_plugin.deepspeed_config
    _refuse_stage(str(settings["zero_optimization"]["stage"]))
    settings["gradient_accumulation_steps"] = 1
    settings["gradient_clipping"] = max_grad_norm  # DeepSpeed steps, and so clips, inside the last backward pass
    settings["train_micro_batch_size_per_gpu"] = 1  # it wants a number, and does nothing with it


def check(precision: str) -> None:
    """Raise unless DeepSpeed can do what was asked for; before a model is loaded, which stage 3 would cut up."""
    _refuse_stage(os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2"))
    if importlib.util.find_spec("deepspeed") is None:
        raise UserError("the launch file asks for DeepSpeed, which is not installed: pip install 'textgen[deepspeed]'")
    if precision == "fp16":
        raise UserError(
            "--precision fp16 with DeepSpeed: it leaves out steps whose gradients overflow, and so data; use bf16 or "
            "fp32, or launch/fsdp2.yaml."
        )


def _refuse_stage(stage: str) -> None:
    if stage not in ("1", "2"):
        raise UserError(
            f"the launch file asks for ZeRO stage {stage}: use stage 2, as launch/deepspeed_zero2.yaml does, or "
            "launch/fsdp2.yaml to cut up the weights too."
        )


def is_zero(optimizer: Any) -> bool:
    """Whether this is DeepSpeed's optimizer around a torch one."""
    return hasattr(optimizer, "single_partition_of_fp32_groups")


def _fragments(optimizer: Any) -> Iterator[tuple[torch.nn.Parameter, dict[str, Any], Any]]:
    """Every parameter, the state of the flat piece of its group that this process updates, and where the two overlap.

    The last is DeepSpeed's own map between a parameter and that piece; None where they do not.
    """
    for flat, parameters in zip(optimizer.single_partition_of_fp32_groups, optimizer.bit16_groups, strict=True):
        for parameter in parameters:
            yield parameter, optimizer.optimizer.state[flat], parameter._hp_mapping


def gathered_state(optimizer: Any) -> dict[torch.nn.Parameter, dict[str, torch.Tensor]]:
    """The wrapped optimizer's state by parameter, whole, on every process, as it would be without DeepSpeed."""
    whole: dict[torch.nn.Parameter, dict[str, torch.Tensor]] = {}
    for parameter, state, mapping in _fragments(optimizer):
        whole[parameter] = {}
        for key, value in state.items():
            if value.dim() == 0:
                whole[parameter][key] = value.detach().clone()
                continue
            total = torch.zeros(parameter.numel(), dtype=value.dtype, device=value.device)
            if mapping is not None:
                mine, there = mapping.hp_fragment_address, mapping.lp_fragment_address
                part = value.narrow(0, mine.start, mine.numel)
                total.narrow(0, there.start, there.numel).copy_(part)
            dist.all_reduce(total)  # the others hold the rest of it, and zeros here
            whole[parameter][key] = total.view_as(parameter)
    return whole


def put_state(optimizer: Any, whole: dict[torch.nn.Parameter, dict[str, torch.Tensor]]) -> None:
    """Go on from what :func:`gathered_state` returned, in a world of any size; the weights are in place already."""
    for flat in optimizer.single_partition_of_fp32_groups:
        optimizer.optimizer.state[flat] = {}
    for flat, parameters in zip(optimizer.single_partition_of_fp32_groups, optimizer.bit16_groups, strict=True):
        state = optimizer.optimizer.state[flat]
        for parameter in parameters:
            mapping = parameter._hp_mapping
            for key, value in whole[parameter].items():
                if value.dim() == 0:
                    state[key] = value.to(flat.device)
                    continue
                piece = state.setdefault(key, torch.zeros_like(flat, dtype=value.dtype))
                if mapping is not None:
                    mine, there = mapping.hp_fragment_address, mapping.lp_fragment_address
                    part = value.reshape(-1).narrow(0, there.start, there.numel)
                    piece.narrow(0, mine.start, mine.numel).copy_(part)
    optimizer.refresh_fp32_params()  # the copies that it updates, from the weights
