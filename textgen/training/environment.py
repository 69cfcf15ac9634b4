"""What a run was computed with: versions, processes, threads, device, memory. A resumed run may differ in these."""

import platform
import resource
import shlex
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from accelerate import Accelerator

from textgen.config import as_utf8
from textgen.redaction import redact_command
from textgen.run.allocator import allocator
from textgen.training.distributed.processes import precision_of

_PACKAGES = ("torch", "transformers", "accelerate", "peft", "bitsandbytes", "datasets", "wandb", "tokenizers", "numpy")


def environment(accelerator: Accelerator) -> dict[str, Any]:
    """The contents of ``environment.json``: versions, processes, threads, precision, allocator, device, command."""
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
        "precision": precision_of(accelerator),
        "allocator": allocator(),
        "device": torch.cuda.get_device_name() if accelerator.device.type == "cuda" else f"cpu ({platform.machine()})",
        "command": as_utf8(shlex.join(redact_command(sys.argv))),
    }


def peak_memory_bytes(accelerator: Accelerator) -> int:
    """The peak memory of this process so far: allocated on its GPU, or resident on a CPU."""
    if accelerator.device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(accelerator.device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
