"""What a model is for a while, and not afterwards: in evaluation mode, or with a module bypassed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode inside, and afterwards for each module the mode it was in, which need not be its parent's."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def bypassed(module: Any, instead: Callable[[torch.Tensor], torch.Tensor] = lambda given: given) -> Iterator[None]:
    """Inside, the module hands on the tensor that comes to it, or what ``instead`` makes of that."""
    # An attribute of the instance hides the method of its class, and takes no hook away. There may be one already:
    # Accelerate puts one where it moves a module's inputs.
    before = vars(module).get("forward")
    module.forward = instead
    try:
        yield
    finally:
        if before is None:
            del module.forward
        else:
            module.forward = before
