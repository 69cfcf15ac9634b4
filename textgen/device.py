"""Whether a process computes on its CPU."""

import os
from collections.abc import Mapping


def cpu_asked_for(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the launcher was told to leave GPUs alone: `use_cpu: true` in its file, as in launch/cpu.yaml, or
    `--cpu`. Answers without torch."""
    word = environment.get("ACCELERATE_USE_CPU", "")
    return word.lower() in ("1", "true", "t", "yes", "y", "on")  # as Accelerate reads it


def on_cpu() -> bool:
    """Whether this process computes on its CPU: it was asked to, or there is no GPU."""
    import torch

    return cpu_asked_for() or not torch.cuda.is_available()
