"""Replacing a model's modules by equivalent ones that take less time and memory.

GPT-2's GELU ("gelu_new" in transformers) is composed of elementary operations and stores five arrays for its gradient;
torch's own kernel stores one. Linear and normalization layers become those of :mod:`textgen.model.kernels.linear`.
"""

from collections.abc import Callable
from typing import Any

import torch
from transformers.activations import ACT2CLS

from textgen.model.kernels.linear import EFFICIENT_MODULES

# Activation, by its name in transformers → the fused equivalent.
FUSED_ACTIVATIONS: dict[str, Callable[[], torch.nn.Module]] = {
    "gelu_new": lambda: torch.nn.GELU(approximate="tanh"),
    "gelu_fast": lambda: torch.nn.GELU(approximate="tanh"),
}


def swap_modules(model: Any) -> Any:
    """Replace modules in place and return the model: same results up to rounding, and an unchanged config."""
    fused = {ACT2CLS[name]: make for name, make in FUSED_ACTIVATIONS.items()}
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child) in fused:
                setattr(module, name, fused[type(child)]())
    for module in model.modules():
        if type(module) in EFFICIENT_MODULES:
            # Changing the class keeps parameters, hooks and every reference to the module.
            module.__class__ = EFFICIENT_MODULES[type(module)]
    return model
