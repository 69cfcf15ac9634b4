"""Low-rank adapters (LoRA, arXiv 2106.09685), placed by structure."""

import logging
from typing import Any

import torch
from transformers.pytorch_utils import Conv1D

from textgen.errors import UserError
from textgen.model.config import ModelConfig


def linear_layers(model: Any) -> dict[str, torch.nn.Module]:
    """Every layer that multiplies by a weight matrix, by its full name, but for the output head.

    Decided by what a layer is: ``nn.Linear``, or GPT-2's ``Conv1D``, which is a linear layer stored transposed.
    """
    head = model.get_output_embeddings()
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D) and module is not head
    }


def adapter_targets(model: Any, wanted: str) -> list[str]:
    """Full names of the layers that get an adapter.

    Args:
        model: the base model.
        wanted: "auto", or names as they end (``c_attn``, ``attn.c_proj``), separated by commas.

    Raises:
        UserError: a name matches no linear layer; the names there are follow.
    """
    layers = list(linear_layers(model))
    if wanted.strip() == "auto":
        return layers
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    missing = [name for name in names if not any(_ends_with(layer, name) for layer in layers)]
    if missing or not names:
        there = sorted({layer.rsplit(".", 1)[-1] for layer in layers})
        raise UserError(
            f"--lora-targets {', '.join(missing) or wanted!r}: the model has no such linear layer. "
            f"It has: {', '.join(there)}."
        )
    return [layer for layer in layers if any(_ends_with(layer, name) for name in names)]


def add_adapters(model: Any, config: ModelConfig, base_name: str, *, seed: int) -> Any:
    """The model with fresh adapters, which alone are trainable.

    Args:
        model: the base model; its weights are shared with the result and frozen.
        config: rank, alpha, dropout and targets.
        base_name: what the saved adapter will call its base: a directory or hub id.
        seed: of the adapters' random half; the other half starts at zero.
    """
    import peft

    targets = adapter_targets(model, config.lora_targets)
    layers = linear_layers(model)
    model.name_or_path = base_name
    adapters = peft.LoraConfig(
        task_type=peft.TaskType.CAUSAL_LM,
        base_model_name_or_path=base_name,
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,  # type: ignore[arg-type]  # peft divides it; a float is fine
        lora_dropout=config.lora_dropout,
        target_modules=_shortest(targets, list(layers)),
        fan_in_fan_out=any(isinstance(layers[name], Conv1D) for name in targets),
    )
    logging.getLogger("peft").setLevel(logging.ERROR)
    torch.manual_seed(seed)
    return peft.get_peft_model(model, adapters)


def _ends_with(layer: str, name: str) -> bool:
    return layer == name or layer.endswith("." + name)


def _shortest(targets: list[str], layers: list[str]) -> list[str]:
    """Last parts of the names where they mean exactly the targets, else the full names."""
    leaves = sorted({name.rsplit(".", 1)[-1] for name in targets})
    meant = {layer for layer in layers if any(_ends_with(layer, leaf) for leaf in leaves)}
    return leaves if meant == set(targets) else sorted(targets)
