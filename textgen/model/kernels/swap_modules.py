"""The same model with less work: modules swapped for equal ones that cost less.

The composed GELU of GPT-2 ("gelu_new") keeps five arrays for its gradient where torch's own kernel keeps one; linear
and other layers are those of :mod:`textgen.model.kernels.linear`.
"""

from collections.abc import Callable
from typing import Any

import torch
from transformers.activations import ACT2CLS

from textgen.model.kernels.linear import CHEAPER

# Activation, by transformers' name for it → what equals it.
EQUALS: dict[str, Callable[[], torch.nn.Module]] = {
    "gelu_new": lambda: torch.nn.GELU(approximate="tanh"),
    "gelu_fast": lambda: torch.nn.GELU(approximate="tanh"),
}


def swap_modules(model: Any) -> Any:
    """The model, changed in place: to rounding it computes what it did, and its config still says what it said."""
    swaps = {ACT2CLS[name]: make for name, make in EQUALS.items()}
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child) in swaps:
                setattr(module, name, swaps[type(child)]())
    for module in model.modules():
        if type(module) in CHEAPER:
            module.__class__ = CHEAPER[type(module)]  # which keeps its parameters, its hooks and whoever holds it
    return model
