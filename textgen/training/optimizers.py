"""Optimizers, one entry per name, and their parameter groups."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from textgen.training.config import TrainingConfig
from textgen.training.muon import Muon, hidden_matrices
from textgen.training.schedule_free import ScheduleFreeAdamW

BETAS, EPSILON = (0.9, 0.99), 1e-8

Groups = list[dict[str, Any]]


def parameter_groups(model: torch.nn.Module, weight_decay: float, *, lora_plus_ratio: float = 1.0) -> Groups:
    """Trainable parameters in groups: those with two or more dimensions decay, vectors do not.

    Biases and normalization gains are vectors; pulling them towards zero regularizes nothing. The B matrices of
    adapters get ``lora_plus_ratio`` times the learning rate, as the ``lr_scale`` of their group (LoRA+, arXiv
    2402.12354).
    """
    trainable = [p for p in model.parameters() if p.requires_grad]
    scaled = {id(p) for p in _adapter_b_matrices(model)} if lora_plus_ratio != 1.0 else set()
    groups = [
        {"params": [p for p in trainable if p.dim() >= 2 and id(p) not in scaled], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.dim() < 2], "weight_decay": 0.0},
    ]
    for group in groups:
        group["lr_scale"] = 1.0
    if scaled:
        matrices = [p for p in trainable if id(p) in scaled]
        groups.append({"params": matrices, "weight_decay": weight_decay, "lr_scale": lora_plus_ratio})
    return groups


def _adapter_b_matrices(model: torch.nn.Module) -> Iterator[torch.nn.Parameter]:
    for module in model.modules():
        if isinstance(getattr(module, "lora_B", None), torch.nn.ModuleDict):
            yield from module.lora_B.parameters()  # type: ignore[union-attr]


def _adamw(model: torch.nn.Module, groups: Groups) -> torch.optim.Optimizer:
    """AdamW (arXiv 1711.05101) with torch's fused kernel, which updates each tensor in one pass over memory."""
    return torch.optim.AdamW(groups, betas=BETAS, eps=EPSILON, fused=True)


def _adamw8bit(model: torch.nn.Module, groups: Groups) -> torch.optim.Optimizer:
    """AdamW with its state in blocks of 8-bit numbers: 2 bytes per parameter instead of 8 (arXiv 2110.02861)."""
    from bitsandbytes.optim import AdamW8bit

    return AdamW8bit(groups, betas=BETAS, eps=EPSILON)


def _muon(model: torch.nn.Module, groups: Groups) -> torch.optim.Optimizer:
    """Muon for hidden matrices, and AdamW for embeddings, the output head and vectors."""
    return Muon(groups, hidden_matrices(model), betas=BETAS, eps=EPSILON)


def _schedule_free(model: torch.nn.Module, groups: Groups) -> torch.optim.Optimizer:
    return ScheduleFreeAdamW(groups, betas=BETAS, eps=EPSILON)


OPTIMIZERS: dict[str, Callable[[torch.nn.Module, Groups], torch.optim.Optimizer]] = {
    "adamw": _adamw,
    "adamw8bit": _adamw8bit,
    "muon": _muon,
    "schedule_free": _schedule_free,
}


def build_optimizer(
    model: torch.nn.Module, config: TrainingConfig, *, lora_plus_ratio: float = 1.0
) -> torch.optim.Optimizer:
    """The optimizer of ``--optimizer``, over the model's trainable parameters.

    Its learning rate is not set yet: :func:`textgen.training.step.training_step` sets it before each step.
    """
    groups = parameter_groups(model, config.weight_decay, lora_plus_ratio=lora_plus_ratio)
    return OPTIMIZERS[config.optimizer](model, [group for group in groups if group["params"]])


@contextmanager
def evaluation_weights(optimizer: Any) -> Iterator[None]:
    """Inside, the model has the weights to evaluate and save; afterwards, the weights to train, restored to the bit.

    They differ for schedule-free optimizers only.
    """
    inner = getattr(optimizer, "optimizer", optimizer)  # unwraps Accelerate's optimizer
    if not isinstance(inner, ScheduleFreeAdamW):
        yield
        return
    training_weights = inner.swap_in_averages()
    try:
        yield
    finally:
        inner.swap_back(training_weights)
