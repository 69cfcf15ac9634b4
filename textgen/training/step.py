"""A single training step: exact whatever the microbatches and the number of processes.

The loss of a global batch is the sum of its token losses over the number of its targets. Every process knows that
number without asking, so each microbatch's sum is scaled once and gradients need no correction afterwards.
"""

import hashlib
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import Accelerator

from textgen.data.blocks import GlobalBatches
from textgen.errors import Diverged
from textgen.training.distributed.exact import Sum, exchange_sums, take_gradients, tree_sum
from textgen.training.distributed.sharding import gather


@dataclass(frozen=True)
class StepResult:
    """What a step did.

    Attributes:
        loss: mean over its targets, in nats.
        grad_norm: before clipping.
        targets: number of target tokens.
        seconds: wall-clock time.
    """

    loss: float
    grad_norm: float
    targets: int
    seconds: float = field(compare=False)


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
    exact: bool = False,
) -> StepResult:
    """Train on the global batch of one step.

    Args:
        accelerator: decides this process's share.
        model: a :class:`textgen.model.loss.ScoredModel`, prepared and in training mode.
        optimizer: prepared, with zero gradients.
        batches: where the step's blocks come from.
        step: counts from 1.
        learning_rate: of this step; a parameter group's ``lr_scale`` multiplies it.
        max_grad_norm: gradients are scaled down to this norm; 0 leaves them.
        exact: add gradients up in the order of :mod:`textgen.training.distributed.exact`; the model is then no DDP.

    With fp16, losses are scaled up so that small gradients survive. Where large ones overflow, the step is computed
    again with half the scale, so that none is left out.

    Raises:
        Diverged: the loss or the gradient norm is not finite; the same on every process, before any weight has changed
            (with DeepSpeed, whose step is part of the last backward pass, before any is saved).
    """
    started = time.perf_counter()
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group.get("lr_scale", 1.0)
    targets = batches.targets(step)
    backward = _backward_in_a_tree if exact else _backward
    while True:
        loss = float(backward(accelerator, model, batches, step, targets)) / targets
        grad_norm = _number(accelerator.clip_grad_norm_(model.parameters(), max_grad_norm or math.inf))
        if math.isfinite(grad_norm) or not math.isfinite(loss) or not _lower_loss_scale(accelerator):
            break
        optimizer.zero_grad()  # and the same step again: it draws the same numbers
    if not (math.isfinite(loss) and math.isfinite(grad_norm)):
        raise Diverged(
            f"step {step}: loss {loss}, gradient norm {grad_norm}. Lower --learning-rate or --max-grad-norm."
        )
    optimizer.step()
    optimizer.zero_grad()
    return StepResult(loss, grad_norm, targets, time.perf_counter() - started)


def _number(norm: Any) -> float:
    # Of a sharded model it is a distributed tensor, and DeepSpeed's is a number already.
    return float(gather(norm.detach()) if isinstance(norm, torch.Tensor) else norm)


def _lower_loss_scale(accelerator: Accelerator) -> bool:
    """Where gradients of scaled fp16 losses overflowed: halve the scale, on every process alike; False if there is
    no scale that could be to blame."""
    if accelerator.scaler is None or accelerator.scaler.get_scale() <= 1.0:
        return False
    accelerator.scaler.update(accelerator.scaler.get_scale() / 2)
    return True


def loss_scale(accelerator: Accelerator) -> tuple[float, int] | None:
    """What fp16 losses are multiplied by, and the steps since that was changed; None in other precisions."""
    if accelerator.scaler is None:
        return None
    state = accelerator.scaler.state_dict()
    return float(state["scale"]), int(state["_growth_tracker"])


def restore_loss_scale(accelerator: Accelerator, saved: tuple[float, int] | None) -> None:
    """Go on with what :func:`loss_scale` returned."""
    if accelerator.scaler is not None and saved is not None:
        state = accelerator.scaler.state_dict()
        accelerator.scaler.load_state_dict(state | {"scale": saved[0], "_growth_tracker": saved[1]})


def _backward(
    accelerator: Accelerator, model: torch.nn.Module, batches: GlobalBatches, step: int, targets: int
) -> torch.Tensor:
    """Leave the gradient of the step's mean loss in the parameters; returns the summed nll of all processes."""
    share = list(batches.share(step, accelerator.process_index, accelerator.num_processes))
    total = torch.zeros((), dtype=torch.float64, device=accelerator.device)
    for position, (index, input_ids, labels) in enumerate(share):
        seed_everything(batches.seed, step, index)
        # Gradients add up locally and are exchanged once, with the last microbatch.
        with nullcontext() if position == len(share) - 1 else _added_up(accelerator, model):
            nll = model(input_ids.to(accelerator.device), labels.to(accelerator.device))
            # Averaging over processes is what DDP and FSDP do with their sum; the factor takes that back.
            accelerator.backward(nll * (accelerator.num_processes / targets))
        total += nll.detach()
    return accelerator.reduce(total, "sum")


@contextmanager
def _added_up(accelerator: Accelerator, model: torch.nn.Module) -> Iterator[None]:
    """Inside, backward passes only add to the gradients that are there."""
    accelerator.gradient_state._set_sync_gradients(False)  # DeepSpeed would take an optimizer step with each of them
    try:
        with accelerator.no_sync(model):
            yield
    finally:
        accelerator.gradient_state._set_sync_gradients(True)


def _backward_in_a_tree(
    accelerator: Accelerator, model: torch.nn.Module, batches: GlobalBatches, step: int, targets: int
) -> torch.Tensor:
    """The same as :func:`_backward`, with the same bits on any number of processes."""
    parameters = [p for p in model.parameters() if p.requires_grad]

    def leaves() -> Iterator[Sum]:
        for index, input_ids, labels in batches.share(step, accelerator.process_index, accelerator.num_processes):
            seed_everything(batches.seed, step, index)
            nll = model(input_ids.to(accelerator.device), labels.to(accelerator.device))
            accelerator.backward(nll / targets)
            yield [nll.detach().double(), *take_gradients(parameters)]

    total, *gradients = whole = tree_sum(leaves())
    exchange_sums(whole)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    return total
