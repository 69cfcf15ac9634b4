"""The structure of a model: its repeated layers, found without knowing their names, and what can be done to them."""

import inspect
from typing import Any

import torch

from textgen.errors import UserError


def transformer_blocks(model: torch.nn.Module) -> list[torch.nn.Module]:
    """The layers that a model repeats: the ``ModuleList`` of like modules that holds most of its parameters.

    Empty for a model that has no such list.
    """
    lists = [
        list(module)
        for module in model.modules()
        if isinstance(module, torch.nn.ModuleList) and len({type(child) for child in module}) == 1
    ]
    return max(lists, key=lambda blocks: sum(p.numel() for block in blocks for p in block.parameters()), default=[])


def checkpoint_activations(model: Any) -> None:
    """Keep each layer's input only, and compute the rest again in the backward pass (arXiv 1604.06174).

    Random numbers are drawn again as they were, so dropout is the same both times.

    Args:
        model: a transformers model, or a peft model around one; adapters are in place already, so that peft does not
            ask for gradients below the lowest of them.

    Raises:
        UserError: the architecture cannot do it.
    """
    base = without_adapters(model)
    if not getattr(base, "supports_gradient_checkpointing", False):
        raise UserError(f"--gradient-checkpointing: {type(base).__name__} cannot do it; leave the flag out.")
    base.activation_checkpointing_enable()  # without re-entrance, and in training mode only


def compile_blocks(model: torch.nn.Module) -> None:
    """Compile every repeated layer in place with ``torch.compile``: one compilation serves all; names stay.

    Raises:
        UserError: the model repeats no layer.
    """
    blocks = transformer_blocks(model)
    if not blocks:
        raise UserError(f"--compile: {type(model).__name__} has no list of layers to compile; leave the flag out.")
    for block in blocks:
        block.compile()


def without_adapters(model: Any) -> Any:
    """The transformers model itself, where a peft model wraps it."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def accepts_logits_to_keep(model: Any) -> bool:
    """Whether the model can be told for how many of the last positions to compute logits."""
    return "logits_to_keep" in inspect.signature(without_adapters(model).forward).parameters
