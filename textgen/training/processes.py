"""Starting this process as one of however many there are."""

import os
import platform
import resource
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from accelerate import Accelerator

from textgen.errors import UserError
from textgen.training.config import world_size

_PACKAGES = ("torch", "transformers", "accelerate", "peft", "bitsandbytes", "datasets", "wandb", "tokenizers", "numpy")


def start_process(threads: int) -> Accelerator:
    """Set this process up: device, process group, and a thread count that was chosen and not inherited.

    `accelerate launch` sets OMP_NUM_THREADS by rules of its own; the count changes the speed by half and the last bits
    of every sum, so it is set here, and recorded.

    Args:
        threads: CPU threads of this process; 0 shares the cores that it may run on out evenly.

    Raises:
        UserError: the launcher asked for another number of processes than it started.
    """
    _hide_progress_bars()
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    torch.set_num_threads(threads or max(1, len(os.sched_getaffinity(0)) // local))
    accelerator = Accelerator(cpu=not torch.cuda.is_available(), mixed_precision="no")
    if accelerator.num_processes != world_size():
        raise UserError(
            f"the launcher announced {world_size()} processes, but {accelerator.num_processes} found each other. "
            "On CPU, launch with: accelerate launch --config_file launch/multi_cpu.yaml recipes/finetune.py"
        )
    return accelerator


def _hide_progress_bars() -> None:
    # The libraries' own bars tell of milliseconds, and clutter every log that is not a terminal.
    from transformers.utils import logging

    logging.disable_progress_bar()
    os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"  # importing it only to say so would cost a second


def peak_memory_bytes(accelerator: Accelerator) -> int:
    """The most memory that this process has used so far: allocated on its GPU, or resident on a CPU."""
    if accelerator.device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(accelerator.device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def environment(accelerator: Accelerator) -> dict[str, Any]:
    """What computed: versions, processes, threads, device and the command; the part of a run that may vary."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "versions": versions,
        "processes": accelerator.num_processes,
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if accelerator.device.type == "cuda" else f"cpu ({platform.machine()})",
        "command": " ".join(sys.argv),
    }
