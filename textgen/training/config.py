"""How to train: how long, in what batches, with which learning rate."""

import math
import os
from dataclasses import dataclass
from typing import Literal

DEFAULT_EPOCHS = 1.0


@dataclass(frozen=True)
class TrainingConfig:
    """The loop. Batch sizes are in blocks and do not depend on the number of processes."""

    steps: int | None = None
    """Optimizer steps to train for."""
    epochs: float | None = None
    """Passes over the data, if --steps is not given; 1 if neither is."""
    global_batch_size: int = 16
    """Blocks that one optimizer step sees, over all processes."""
    microbatch_size: int = 4
    """Blocks that one forward pass sees; changes memory and speed, not the result."""
    learning_rate: float = 1e-3
    """Peak learning rate."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """How the learning rate goes on after the warm-up: down to a tenth (cosine, linear), or not at all."""
    warmup_steps: int = 10
    """Steps over which the learning rate rises to its peak."""
    weight_decay: float = 0.1
    """Decoupled weight decay of every parameter with two or more dimensions."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm; 0 leaves them as they are."""
    optimizer: Literal["adamw"] = "adamw"
    """The optimizer."""
    seed: int = 0
    """Seeds everything that is random, together with the step it happens in."""
    threads: int = 0
    """CPU threads of each process; 0 shares the machine's cores out evenly."""

    def total_steps(self, steps_per_epoch: int) -> int:
        """Optimizer steps of the whole run."""
        if self.steps is not None:
            return self.steps
        return max(1, math.ceil((DEFAULT_EPOCHS if self.epochs is None else self.epochs) * steps_per_epoch))

    def problems(self, world_size: int) -> list[str]:
        """What is wrong with these settings on this many processes, one remedy each."""
        found = []
        if self.steps is not None and self.epochs is not None:
            found.append(f"--steps {self.steps} and --epochs {self.epochs}: give one of them.")
        for name in ("steps", "epochs"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                found.append(f"--{name} {value}: give a positive number.")
        for name, least in (("global_batch_size", 1), ("microbatch_size", 1), ("warmup_steps", 0), ("threads", 0)):
            if getattr(self, name) < least:
                found.append(f"--{name.replace('_', '-')} {getattr(self, name)}: give at least {least}.")
        for name in ("learning_rate", "weight_decay", "max_grad_norm"):
            value = getattr(self, name)
            if not 0 <= value < float("inf") or (name == "learning_rate" and value == 0):
                found.append(f"--{name.replace('_', '-')} {value}: give a finite number that is not negative.")
        if self.global_batch_size >= 1 and self.microbatch_size >= 1:
            found += _division_problems(self.global_batch_size, self.microbatch_size, world_size)
        return found


def _division_problems(global_batch: int, microbatch: int, world_size: int) -> list[str]:
    if global_batch % (microbatch * world_size) == 0:
        return []
    fitting = [size for size in range(1, global_batch + 1) if global_batch % (size * world_size) == 0]
    unit = microbatch * world_size
    larger = -(-global_batch // unit) * unit
    remedy = f"--microbatch-size {' or '.join(map(str, fitting))}, or " if fitting else ""
    return [
        f"--global-batch-size {global_batch} with --microbatch-size {microbatch} on {world_size} process(es): "
        f"the batch does not divide into equal shares of whole microbatches. Use {remedy}--global-batch-size {larger}."
    ]


def world_size() -> int:
    """The number of processes that the launcher says there are; known before torch is set up."""
    return int(os.environ.get("WORLD_SIZE", "1"))
