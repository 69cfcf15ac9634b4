"""What the launcher asked for, and whether a process computes on its CPU."""

import os
from collections.abc import Mapping


def asked_for(what: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the launcher was told to use ``what``: FSDP, DEEPSPEED, or CPU (`use_cpu: true` or `--cpu`), which leaves
    GPUs alone. Answers without torch."""
    word = environment.get(f"ACCELERATE_USE_{what}", "")
    return word.lower() in ("1", "true", "t", "yes", "y", "on")  # as Accelerate reads it


def on_cpu() -> bool:
    """Whether this process computes on its CPU: it was asked to, or there is no GPU."""
    import torch

    return asked_for("CPU") or not torch.cuda.is_available()
