"""A single training step, whose result does not depend on microbatches or the number of processes.

The loss of a global batch is the sum of its token losses, divided by its number of targets. Every process can compute
that number without communication, so each microbatch's sum is scaled once and gradients need no correction afterwards.
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
from textgen.training.distributed.exact import Tensors, all_reduce_in_tree, pop_gradients, tree_sum
from textgen.training.distributed.sharding import gather
from textgen.training.precision import halve_loss_scale, loss_scale, reset_loss_scale


@dataclass(frozen=True)
class StepResult:
    """The result of a step.

    Attributes:
        loss: mean nll of the step's targets, in nats.
        grad_norm: gradient norm before clipping.
        targets: number of target tokens.
        seconds: wall-clock time; ignored in comparisons.
        stopping: whether any process was told to stop; the same on all.
    """

    loss: float
    grad_norm: float
    targets: int
    seconds: float = field(compare=False)
    stopping: bool = field(default=False, compare=False)

    @property
    def skipped(self) -> bool:
        """Whether the loss or the gradient norm is not finite, so that no weight was changed."""
        return not _all_finite(self.loss, self.grad_norm)

    def metrics(self, *, learning_rate: float, targets: int) -> dict[str, float]:
        """The step's part of a row of ``metrics.jsonl``; numbers that are not finite are left out.

        Args:
            learning_rate: the step's.
            targets: number of target tokens trained on so far.
        """
        row: dict[str, float] = {"train/loss": self.loss, "train/learning_rate": learning_rate}
        row |= {"train/grad_norm": self.grad_norm, "train/tokens": targets}
        if self.skipped:
            row["train/skipped"] = 1
        return {name: value for name, value in row.items() if math.isfinite(value)}


def seed_everything(*key: int) -> None:
    """Seed torch's random generators, on every device, from a key such as (seed, step, microbatch)."""
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
    stopping: bool = False,
) -> StepResult:
    """Train on the global batch of one step.

    Args:
        accelerator: this process's Accelerator; each process computes its share of the microbatches.
        model: a :class:`textgen.model.loss.ModelWithLoss`, prepared and in training mode.
        optimizer: the prepared optimizer, with zero gradients.
        batches: the batches of all steps.
        step: number of this step; the first is 1.
        learning_rate: learning rate of this step; each parameter group multiplies it by its ``lr_scale``.
        max_grad_norm: clip gradients to this norm; 0: no clipping.
        exact: sum gradients in the order of :mod:`textgen.training.distributed.exact`; the model must not be wrapped
            in DDP.
        stopping: whether this process was told to stop.

    With fp16, losses are scaled up so that small gradients do not underflow. If large ones overflow, the same step is
    computed again with half the scale, so no data is skipped.

    If the loss or the gradient norm is not finite, the step is skipped: weights, optimizer state and loss scale stay as
    they were. Both numbers are sums over all processes, so all skip the same steps. (DeepSpeed updates the weights in
    the last backward pass, unless the gradient norm is not finite; the loss alone does not stop it.)
    """
    started = time.perf_counter()
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group.get("lr_scale", 1.0)
    targets = max(1, batches.targets(step))  # all blocks of a short batch can be parts of long prompts
    backward = _exact_backward if exact else _backward
    scale = loss_scale(accelerator.scaler)
    while True:
        nll, told = backward(accelerator, model, batches, step, targets, stopping).tolist()
        loss = nll / targets
        grad_norm = _as_float(accelerator.clip_grad_norm_(model.parameters(), max_grad_norm or math.inf))
        if math.isfinite(grad_norm) or not math.isfinite(loss) or not halve_loss_scale(accelerator.scaler):
            break
        optimizer.zero_grad()  # and repeat the step, with the same random numbers
    if not _all_finite(loss, grad_norm):
        reset_loss_scale(accelerator.scaler, scale)  # a lower one did not help
    else:
        optimizer.step()
    optimizer.zero_grad()
    return StepResult(loss, grad_norm, targets, time.perf_counter() - started, stopping=told > 0)


def settle_gradient_buckets(accelerator: Accelerator, model: torch.nn.Module, batches: GlobalBatches) -> None:
    """Let DDP sum gradients in its final order from the first step on.

    After its first backward pass, DDP groups gradients anew, by when they arrived. On three or more processes, the
    order in which the terms of a sum are added depends on these groups; so the first step of a resumed run would have
    other bits than that step of a run that was not interrupted. Here the first backward pass is one that changes
    nothing.
    """
    if isinstance(model, torch.nn.parallel.DistributedDataParallel):
        microbatch = next(iter(batches.process_share(1, accelerator.process_index, accelerator.num_processes)))
        seed_everything(batches.seed, 0, microbatch.index)
        accelerator.backward(model(*microbatch.inputs(accelerator.device)))
        model.zero_grad()


def _all_finite(*numbers: float) -> bool:
    return all(map(math.isfinite, numbers))


def _as_float(norm: Any) -> float:
    # The norm of a sharded model is a distributed tensor, and DeepSpeed's is a number.
    return float(gather(norm.detach()) if isinstance(norm, torch.Tensor) else norm)


def _backward(
    accelerator: Accelerator,
    model: torch.nn.Module,
    batches: GlobalBatches,
    step: int,
    targets: int,
    stopping: bool,
) -> torch.Tensor:
    """Accumulate the gradient of the step's mean loss.

    Returns:
        The summed nll, and how many processes were told to stop, over all of them, [2]: one reduction for both.
    """
    share = list(batches.process_share(step, accelerator.process_index, accelerator.num_processes))
    total = torch.zeros((), dtype=torch.float64, device=accelerator.device)
    for position, microbatch in enumerate(share):
        seed_everything(batches.seed, step, microbatch.index)
        # Gradients are accumulated locally and synchronized once, with the last microbatch.
        with nullcontext() if position == len(share) - 1 else _without_sync(accelerator, model):
            nll = model(*microbatch.inputs(accelerator.device))
            # DDP and FSDP average gradients over processes; the factor num_processes turns that into a sum.
            accelerator.backward(nll * (accelerator.num_processes / targets))
        total += nll.detach()
    return accelerator.reduce(torch.stack([total, torch.full_like(total, stopping)]), "sum")


@contextmanager
def _without_sync(accelerator: Accelerator, model: torch.nn.Module) -> Iterator[None]:
    """Accumulate gradients inside without synchronizing them."""
    accelerator.gradient_state._set_sync_gradients(False)  # otherwise DeepSpeed would update the weights each time
    try:
        with accelerator.no_sync(model):
            yield
    finally:
        accelerator.gradient_state._set_sync_gradients(True)


def _exact_backward(
    accelerator: Accelerator,
    model: torch.nn.Module,
    batches: GlobalBatches,
    step: int,
    targets: int,
    stopping: bool,
) -> torch.Tensor:
    """The same as :func:`_backward`, but with identical bits on any number of processes."""
    parameters = [p for p in model.parameters() if p.requires_grad]

    def microbatches() -> Iterator[Tensors]:
        for microbatch in batches.process_share(step, accelerator.process_index, accelerator.num_processes):
            seed_everything(batches.seed, step, microbatch.index)
            nll = model(*microbatch.inputs(accelerator.device))
            accelerator.backward(nll / targets)
            nll = nll.detach().double()
            yield [torch.stack([nll, torch.full_like(nll, stopping)]), *pop_gradients(parameters)]

    total, *gradients = sums = tree_sum(microbatches())
    all_reduce_in_tree(sums)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    return total
