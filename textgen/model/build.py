"""Building a model for training or evaluation: weights, adapters, memory-efficient layers, device."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from textgen.model.adapters.lora import add_adapters
from textgen.model.adapters.targets import AdapterTargets, find_targets
from textgen.model.config import AdapterConfig
from textgen.model.kernels.swap_modules import swap_modules
from textgen.model.layers import enable_gradient_checkpointing
from textgen.model.loading import empty_model, load_model, parameter_counts, save_model, weights_fingerprint
from textgen.model.locate import FoundModel
from textgen.model.packing import check_isolation
from textgen.model.probe import check_causal, check_trains
from textgen.model.quantized import quantized_parameters
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
        quantized_parameters: number of those in 4 or 8 bits.
        targets: the weights that have an adapter, and those that have none; None if all parameters are trained.
    """

    found: FoundModel
    model: Any
    base_fingerprint: str
    quantize_bits: int | None
    trainable_parameters: int
    total_parameters: int
    quantized_parameters: int = 0
    targets: AdapterTargets | None = None

    def __str__(self) -> str:
        share = self.trainable_parameters / self.total_parameters
        text = f"{self.trainable_parameters:,} of {self.total_parameters:,} parameters are trainable ({share:.1%})"
        if self.quantized_parameters:  # of linear layers only: not of embeddings, the head, or stacks of experts
            share = self.quantized_parameters / (self.total_parameters - self.trainable_parameters)
            text += f", {share:.1%} of the frozen ones are quantized"
        return f"{text}; {self.targets}" if self.targets else text

    def facts(self) -> dict[str, Any]:
        """The model's entries in ``environment.json``."""
        sizes = {
            "trainable_parameters": self.trainable_parameters,
            "total_parameters": self.total_parameters,
        }
        if self.quantized_parameters:
            sizes["quantized_parameters"] = self.quantized_parameters
        adapters = {"adapters": self.targets.facts()} if self.targets else {}
        return {"model": self.found.config.model} | sizes | adapters

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
    isolated: bool = False,
) -> TrainableModel:
    """Load a model for training: all parameters, or adapters on frozen and possibly quantized weights.

    Args:
        found: the model; its configuration has the method and dropout.
        adapters: settings of the adapters, with lora and qlora.
        device: device of the model.
        dtype: dtype of matrix multiplications, in which frozen weights are stored.
        seed: random seed of random weights and new adapters.
        gradient_checkpointing: whether to recompute activations in the backward pass.
        isolated: whether documents in one row must not see each other (:mod:`textgen.model.packing`).

    Raises:
        UserError: the weights cannot be loaded, the model is not causal or cannot be trained
            (:mod:`textgen.model.probe`), a target does not exist or cannot be adapted, or the architecture does not
            isolate documents or support gradient checkpointing.
    """
    bits = adapters.qlora_bits if found.config.method == "qlora" and not found.quantized else None
    with progress(f"loading {found.config.model}"):
        model = load_model(
            found.location, found.config, seed=seed, setting=found.setting, quantize_bits=bits, compute_dtype=dtype
        )
        base_fingerprint = weights_fingerprint(model)
    quantized = quantized_parameters(model)
    targets = None
    if found.config.method != "full":
        targets = find_targets(model, adapters)
        frozen_dtype = None if quantized else dtype  # quantized weights have a compute dtype of their own
        model = add_adapters(model, adapters, found.location.base, seed=seed, dtype=frozen_dtype, targets=targets)
    model = _probed(swap_modules(model).to(device), found)
    check_training(model, found, isolated=isolated)
    if gradient_checkpointing:
        enable_gradient_checkpointing(model)
    return TrainableModel(found, model, base_fingerprint, bits, *parameter_counts(model), quantized, targets)


def preview_targets(found: FoundModel, adapters: AdapterConfig) -> AdapterTargets | None:
    """The weights that will get an adapter, as far as the model's structure tells; its weights are not loaded.

    Returns:
        None with --method full, or if the architecture cannot be built without values.

    Raises:
        UserError: a target does not exist or cannot be adapted.
    """
    if found.config.method == "full":
        return None
    model = empty_model(found.location, found.config, setting=found.setting)
    return None if model is None else find_targets(model, adapters)


def load_frozen(found: FoundModel, *, device: torch.device, seed: int) -> Any:
    """Load a model or saved adapter for evaluation.

    Raises:
        UserError: its weights cannot be loaded, or it is not causal (:mod:`textgen.model.probe`).
    """
    with progress(f"loading {found.config.model}"):
        model = load_model(found.location, found.config, seed=seed, setting=found.setting)
    return _probed(swap_modules(model).to(device), found)


def check_training(model: Any, found: FoundModel, *, isolated: bool) -> None:
    """Check what a probed model must do besides to be trained; arguments as for :func:`build_model`.

    Raises:
        UserError: it cannot be trained, or does not isolate documents.
    """
    check_trains(model, _place(found))
    if isolated:
        check_isolation(model, found.config.model)


def _place(found: FoundModel) -> str:
    return f"{found.setting} {found.location.adapter or found.location.base}"


def _probed(model: Any, found: FoundModel) -> Any:
    # Here every process still has all weights: sharding comes later.
    check_causal(model, _place(found), context=found.context, vocabulary=len(found.tokenizer))
    return model
