"""Temporary changes to a model: evaluation mode, and modules whose forward is overridden."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode inside; afterwards each module returns to its own previous mode, which may differ from its
    parent's."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def identity(x: torch.Tensor) -> torch.Tensor:
    """The input, unchanged."""
    return x


@contextmanager
def override_forward(module: Any, forward: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[None]:
    """Run ``forward`` instead of the module's own inside; :func:`identity` skips the module. Its hooks still run."""
    # An attribute of the instance hides the method of its class without removing hooks. There may be one already:
    # Accelerate sets it where it moves a module's inputs to another device.
    previous = vars(module).get("forward")
    module.forward = forward
    try:
        yield
    finally:
        if previous is None:
            del module.forward
        else:
            module.forward = previous
