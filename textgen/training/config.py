"""How to train: how long, in what batches, with which learning rate."""

import math
from dataclasses import dataclass
from typing import Literal

from textgen.device import launcher_uses

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
    microbatch_size: int | Literal["auto"] = 4
    """Blocks that one forward pass sees; changes memory and speed, not the result. auto takes the most that fit."""
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
    optimizer: Literal["adamw", "adamw8bit", "muon", "schedule_free"] = "adamw"
    """adamw8bit keeps AdamW's state in 8 bits; muon orthogonalises the updates of matrices; schedule_free averages
    weights instead of lowering the learning rate (with --schedule constant)."""
    seed: int = 0
    """Seeds everything that is random, together with the step it happens in."""

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
        for name, least in (("global_batch_size", 1), ("microbatch_size", 1), ("warmup_steps", 0)):
            if getattr(self, name) != "auto" and getattr(self, name) < least:
                found.append(f"--{name.replace('_', '-')} {getattr(self, name)}: give at least {least}.")
        for name in ("learning_rate", "weight_decay", "max_grad_norm"):
            value = getattr(self, name)
            if not 0 <= value < float("inf") or (name == "learning_rate" and value == 0):
                found.append(f"--{name.replace('_', '-')} {value}: give a finite number that is not negative.")
        if self.optimizer == "schedule_free" and self.schedule != "constant":
            found.append(
                f"--optimizer schedule_free with --schedule {self.schedule}: its averaging takes the place of a "
                "schedule; add --schedule constant."
            )
        microbatch = 1 if self.microbatch_size == "auto" else self.microbatch_size
        if self.global_batch_size >= 1 and microbatch >= 1:
            found += _division_problems(self.global_batch_size, microbatch, world_size)
        return found


@dataclass(frozen=True)
class EngineConfig:
    """How steps are computed: precision, memory, speed. What is computed does not change, up to rounding."""

    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """What matrices are multiplied in; auto takes what a GPU does well, and fp32 on a CPU, where bf16 pays if there are
    instructions for it. Trained weights stay in float32."""
    gradient_checkpointing: bool = False
    """Keep only each layer's input and compute the rest again on the way back: less memory, a third more time."""
    compile: bool = False
    """Compile the model's layers with torch.compile."""
    exact: bool = False
    """The same bits on 1, 2, 4, ... processes; slower. Needs powers of two and one thread count."""
    threads: int = 0
    """CPU threads of each process; 0 shares the machine's cores out evenly, and is 1 with --exact."""

    def problems(self, training: TrainingConfig, world_size: int) -> list[str]:
        """What is wrong with these settings by themselves and beside the batch sizes, one remedy each."""
        found = []
        if self.threads < 0:
            found.append(f"--threads {self.threads}: give at least 0.")
        if training.optimizer != "adamw" and launcher_uses("DEEPSPEED"):
            found.append(
                f"--optimizer {training.optimizer} with DeepSpeed: ZeRO joins parameters into flat pieces, which only "
                "adamw can update; use that, or launch/fsdp2.yaml."
            )
        return found + (self._obstacles_to_exactness(training, world_size) if self.exact else [])

    def _obstacles_to_exactness(self, training: TrainingConfig, world_size: int) -> list[str]:
        found = []
        if not is_power_of_two(world_size):
            found.append(
                f"--exact on {world_size} processes: sums are added up in a binary tree, the same for 1, 2, 4, ... "
                "processes; launch a power of two."
            )
        size = training.microbatch_size
        if size == "auto":
            found.append(
                "--exact with --microbatch-size auto: the size would depend on the machine, and the bits on the size; "
                "give a number."
            )
        elif size > 0 and not is_power_of_two(training.global_batch_size // size):
            found.append(
                f"--exact with --global-batch-size {training.global_batch_size} and --microbatch-size {size}: "
                f"{training.global_batch_size // size} microbatches are no full binary tree; choose sizes that make "
                "1, 2, 4, ... of them."
            )
        if self.compile:
            found.append("--exact with --compile: compiled kernels add up in an order of their own; leave one out.")
        for plugin, name in (("FSDP", "FSDP"), ("DEEPSPEED", "DeepSpeed")):
            if launcher_uses(plugin):
                found.append(f"--exact with {name}: it adds up gradients in an order of its own; leave --exact out.")
        return found


def is_power_of_two(number: int) -> bool:
    """Whether a binary tree with that many leaves is full."""
    return number > 0 and number & (number - 1) == 0


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
