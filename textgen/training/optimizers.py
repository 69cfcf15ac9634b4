"""Optimizers, one entry each, and which parameters decay."""

from collections.abc import Callable
from typing import Any

import torch

from textgen.training.config import TrainingConfig


def parameter_groups(model: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Trainable parameters in two groups, decided by structure: matrices and embeddings decay, vectors do not.

    Biases and normalisation gains have one dimension; pulling them to zero regularises nothing.
    """
    trainable = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trainable if p.dim() >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.dim() < 2], "weight_decay": 0.0},
    ]


def _adamw(model: torch.nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """AdamW (arXiv 1711.05101) as torch's fused kernel, which updates every tensor in one pass over memory."""
    groups = parameter_groups(model, config.weight_decay)
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.99), eps=1e-8, fused=True)


OPTIMIZERS: dict[str, Callable[[torch.nn.Module, TrainingConfig], torch.optim.Optimizer]] = {"adamw": _adamw}


def build_optimizer(model: torch.nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """The optimizer that the configuration names, over the model's trainable parameters."""
    return OPTIMIZERS[config.optimizer](model, config)
