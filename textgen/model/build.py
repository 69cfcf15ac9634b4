"""Building a model for training or evaluation: weights, adapters, memory-efficient layers, device."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from textgen.model.config import AdapterConfig
from textgen.model.kernels.swap_modules import swap_modules
from textgen.model.layers import enable_gradient_checkpointing
from textgen.model.loading import load_model, parameter_counts, save_model, weights_fingerprint
from textgen.model.locate import FoundModel
from textgen.model.lora import add_adapters
from textgen.progress import progress


@dataclass(frozen=True)
class TrainableModel:
    """A model to train, and what is needed to save it.

    Attributes:
        found: where it came from, with its tokenizer and context length.
        model: a transformers model or, with adapters, a peft model.
        base_fingerprint: SHA-256 of the weights before training, without adapters.
        quantize_bits: bits of the frozen weights, if they are quantized.
        trainable_parameters: number of parameters that are trained.
        total_parameters: number of all parameters.
    """

    found: FoundModel
    model: Any
    base_fingerprint: str
    quantize_bits: int | None
    trainable_parameters: int
    total_parameters: int

    def __str__(self) -> str:
        share = self.trainable_parameters / self.total_parameters
        return f"{self.trainable_parameters:,} of {self.total_parameters:,} parameters are trainable ({share:.1%})"

    def facts(self) -> dict[str, Any]:
        """The model's entries in ``environment.json``."""
        sizes = {
            "trainable_parameters": self.trainable_parameters,
            "total_parameters": self.total_parameters,
        }
        return {"model": self.found.config.model} | sizes

    def save(self, directory: Path, *, state: dict[str, torch.Tensor] | None = None) -> None:
        """Write the model, or its adapters, and the tokenizer as transformers and peft load them.

        Args:
            directory: the directory to write; replaced if it exists.
            state: the full state dictionary, if this process holds only a shard of the model.
        """
        adapted = self.found.config.method != "full"
        save_model(
            self.model,
            self.found.tokenizer,
            directory,
            base_fingerprint=self.base_fingerprint if adapted else None,
            quantize_bits=self.quantize_bits,
            state=state,
        )


def build_model(
    found: FoundModel,
    adapters: AdapterConfig,
    *,
    device: torch.device,
    dtype: torch.dtype,
    seed: int,
    gradient_checkpointing: bool = False,
) -> TrainableModel:
    """Load a model for training: all parameters, or adapters on frozen and possibly quantized weights.

    Args:
        found: the model; its configuration has the method and dropout.
        adapters: settings of the adapters, with lora and qlora.
        device: device of the model.
        dtype: dtype of matrix multiplications, in which frozen weights are stored.
        seed: random seed of random weights and new adapters.
        gradient_checkpointing: whether to recompute activations in the backward pass.

    Raises:
        UserError: the weights cannot be loaded, a target layer does not exist, or the architecture does not support
            gradient checkpointing.
    """
    adapted = found.config.method != "full"
    bits = adapters.qlora_bits if found.config.method == "qlora" else None
    with progress(f"loading {found.config.model}"):
        model = load_model(
            found.location, found.config, seed=seed, setting=found.setting, quantize_bits=bits, compute_dtype=dtype
        )
        base_fingerprint = weights_fingerprint(model)
    if adapted:
        model = add_adapters(model, adapters, found.location.base, seed=seed, dtype=None if bits else dtype)
    model = swap_modules(model).to(device)
    if gradient_checkpointing:
        enable_gradient_checkpointing(model)
    return TrainableModel(found, model, base_fingerprint, bits, *parameter_counts(model))


def load_frozen(found: FoundModel, *, device: torch.device, seed: int) -> Any:
    """Load a model or saved adapter for evaluation.

    Raises:
        UserError: its weights cannot be loaded.
    """
    with progress(f"loading {found.config.model}"):
        return swap_modules(load_model(found.location, found.config, seed=seed, setting=found.setting)).to(device)
