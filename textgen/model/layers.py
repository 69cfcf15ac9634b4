"""The repeated layers of a model, found by structure rather than by name: gradient checkpointing and compilation."""

import inspect
from typing import Any

import torch

from textgen.errors import UserError


def transformer_blocks(model: torch.nn.Module) -> list[torch.nn.Module]:
    """The layers that a model repeats: the ``ModuleList`` of modules of one type that holds the most parameters.

    Empty for a model without such a list.
    """
    lists = [
        list(module)
        for module in model.modules()
        if isinstance(module, torch.nn.ModuleList) and len({type(child) for child in module}) == 1
    ]
    return max(lists, key=lambda blocks: sum(p.numel() for block in blocks for p in block.parameters()), default=[])


def enable_gradient_checkpointing(model: Any) -> None:
    """Store only each layer's input, and recompute its activations in the backward pass (arXiv 1604.06174).

    The random state is restored for the recomputation, so dropout is the same both times.

    Args:
        model: a transformers model, or a peft model around one. Add adapters first: otherwise peft requires gradients
            below the lowest adapter too.

    Raises:
        UserError: the architecture does not support it.
    """
    base = without_adapters(model)
    if not getattr(base, "supports_gradient_checkpointing", False):
        raise UserError(f"--gradient-checkpointing: {type(base).__name__} does not support it. Omit the flag.")
    base.activation_checkpointing_enable()  # the non-reentrant variant, active in training mode only


def compile_blocks(model: torch.nn.Module) -> None:
    """Compile every repeated layer in place with ``torch.compile``: one compilation serves all, and names are kept.

    Raises:
        UserError: the model has no repeated layers.
    """
    blocks = transformer_blocks(model)
    if not blocks:
        raise UserError(f"--compile: {type(model).__name__} has no list of layers to compile. Omit the flag.")
    for block in blocks:
        block.compile()


def without_adapters(model: Any) -> Any:
    """The transformers model inside a peft model; any other model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def accepts_logits_to_keep(model: Any) -> bool:
    """Whether the model can compute logits for the last positions only (its ``logits_to_keep`` argument)."""
    return "logits_to_keep" in inspect.signature(without_adapters(model).forward).parameters
