"""What the launcher requested, read from its environment variables without importing torch."""

import os
from collections.abc import Mapping

from textgen.errors import UserError

_LARGEST_PORT = 65_535
_UNSET = "Start the processes with accelerate launch or torchrun, or unset it to start one."


def launcher_uses(feature: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the launch file turned a feature on.

    Args:
        feature: "FSDP", "DEEPSPEED", or "CPU" (``use_cpu: true`` or ``--cpu``), which leaves GPUs unused.
        environment: environment variables, as set by Accelerate.
    """
    value = environment.get(f"ACCELERATE_USE_{feature}", "")
    return value.lower() in ("1", "true", "t", "yes", "y", "on")  # the values that Accelerate accepts


def on_cpu() -> bool:
    """Whether this process computes on the CPU: the launcher requested it, or there is no GPU. Imports torch."""
    import torch

    return launcher_uses("CPU") or not torch.cuda.is_available()


def world_size() -> int:
    """Number of processes according to the launcher; known before torch.distributed is set up."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main_process() -> bool:
    """Whether this is the process that prints and writes; known before torch.distributed is set up."""
    rank, size = os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")), os.environ.get("WORLD_SIZE", "")
    if not rank.isdecimal() or (size.isdecimal() and "RANK" in os.environ and int(rank) >= int(size)):
        return True  # an invalid rank is an error, which somebody has to print
    return rank == "0"


def check_launch_variables(environment: Mapping[str, str] = os.environ) -> None:
    """Check the variables in which a launcher says how many processes there are, and which one this is.

    Raises:
        UserError: one is not such a number.
    """
    problems = []
    for name, least in {"WORLD_SIZE": 1, "LOCAL_WORLD_SIZE": 1, "RANK": 0, "LOCAL_RANK": 0}.items():
        value = environment.get(name, str(least))
        if not value.isdecimal() or int(value) < least:
            problems.append(f"{name} {value}: this environment variable must be a number from {least} on. {_UNSET}")
    port = environment.get("MASTER_PORT", "0")
    if not port.isdecimal() or int(port) > _LARGEST_PORT:
        problems.append(f"MASTER_PORT {port}: this environment variable must be the number of a port. {_UNSET}")
    if problems:
        raise UserError.of(problems)
    for rank, size in (("RANK", "WORLD_SIZE"), ("LOCAL_RANK", "LOCAL_WORLD_SIZE")):
        if rank in environment and size in environment and int(environment[rank]) >= int(environment[size]):
            problems.append(
                f"{rank} {environment[rank]}: this environment variable must be below {size}, which is "
                f"{environment[size]}. {_UNSET}"
            )
    if problems:
        raise UserError.of(problems)


def started_by_launcher(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether `accelerate launch`, torchrun or DeepSpeed started this process, and waits for it to end."""
    return any(name in environment for name in ("ACCELERATE_MIXED_PRECISION", "TORCHELASTIC_RUN_ID", "CROSS_SIZE"))
