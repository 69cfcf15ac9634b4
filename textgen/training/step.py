"""A single training step: exact whatever the microbatches and the number of processes.

The loss of a global batch is the sum of its token losses over the number of its targets. Every process knows that
number without asking, so each microbatch's sum is scaled once and gradients need no correction afterwards.
"""

import hashlib
import math
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from accelerate import Accelerator

from textgen.data.blocks import GlobalBatches
from textgen.errors import Diverged
from textgen.model.loss import nll_sum


@dataclass(frozen=True)
class StepResult:
    """What a step did: mean loss over its targets (nats), gradient norm before clipping, number of targets."""

    loss: float
    grad_norm: float
    targets: int


def seed_everything(*key: int) -> None:
    """Seed torch's generators, on every device, from a key such as (seed, step, microbatch)."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    torch.manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def training_step(
    accelerator: Accelerator,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: GlobalBatches,
    *,
    step: int,
    learning_rate: float,
    max_grad_norm: float,
) -> StepResult:
    """Train on the global batch of one step.

    Args:
        accelerator: decides this process's share.
        model: prepared by the accelerator, in training mode.
        optimizer: prepared by the accelerator, with zero gradients.
        batches: where the step's blocks come from.
        step: counts from 1.
        learning_rate: of this step.
        max_grad_norm: gradients are scaled down to this norm; 0 leaves them.

    Raises:
        Diverged: the loss or the gradient norm is not finite; the same on every process, before any weight has changed.
    """
    targets = batches.targets(step)
    total = torch.zeros((), dtype=torch.float64)
    share = list(batches.share(step, accelerator.process_index, accelerator.num_processes))
    for position, (index, input_ids, labels) in enumerate(share):
        seed_everything(batches.seed, step, index)
        last = position == len(share) - 1
        # Gradients add up locally and are exchanged once, with the last microbatch.
        with nullcontext() if last else accelerator.no_sync(model):
            nll = nll_sum(model, input_ids.to(accelerator.device), labels.to(accelerator.device))
            # DDP divides by the number of processes when it sums; the factor takes that back.
            accelerator.backward(nll * (accelerator.num_processes / targets))
        total += nll.detach().double().cpu()
    loss = float(accelerator.reduce(total.to(accelerator.device), "sum")) / targets
    grad_norm = float(accelerator.clip_grad_norm_(model.parameters(), max_grad_norm or math.inf))
    if not (math.isfinite(loss) and math.isfinite(grad_norm)):
        raise Diverged(
            f"step {step}: loss {loss}, gradient norm {grad_norm}. Lower --learning-rate or --max-grad-norm."
        )
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    optimizer.step()
    optimizer.zero_grad()
    return StepResult(loss, grad_norm, targets)
