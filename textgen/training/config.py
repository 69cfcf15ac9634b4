"""Settings of training: its length, batches, learning rate and optimizer, and how steps are computed."""

import math
from dataclasses import dataclass
from typing import Literal

from textgen.config import MOST_THREADS, at_least, at_most, flag
from textgen.launch_environment import launcher_uses

DEFAULT_EPOCHS = 1.0


@dataclass(frozen=True)
class TrainingConfig:
    """The training loop. Batch sizes are in blocks and do not depend on the number of processes."""

    steps: int | None = None
    """Number of optimizer steps. Default: see --epochs."""
    epochs: float | None = None
    """Number of passes over the data, instead of --steps. Default: 1."""
    global_batch_size: int = 16
    """Blocks per optimizer step, over all processes."""
    microbatch_size: int | Literal["auto"] = 4
    """Blocks per forward pass; changes memory and speed, but not the result. auto: the largest size that fits into
    memory."""
    learning_rate: float | Literal["auto"] = "auto"
    """Peak learning rate. auto: by the number of parameters, for full training, adapters or random weights."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """Learning rate after the warm-up: decay to a tenth of the peak (cosine, linear), or constant."""
    warmup_steps: int | Literal["auto"] = "auto"
    """Number of steps over which the learning rate rises linearly to its peak. auto: a tenth of the run, at most
    500."""
    weight_decay: float = 0.1
    """Decoupled weight decay of parameters with two or more dimensions."""
    max_grad_norm: float = 1.0
    """Clip gradients to this norm; 0: no clipping."""
    max_skipped_steps: int = 3
    """Number of steps in a row to skip because their loss or gradient is not finite; one more ends the run with exit
    code 3. 0: end at the first."""
    optimizer: Literal["adamw", "adamw8bit", "muon", "schedule_free"] = "adamw"
    """adamw8bit: AdamW with 8-bit state; muon: orthogonalized updates of hidden matrices, and AdamW for other
    parameters; schedule_free: AdamW with averaged weights instead of a decaying learning rate (needs --schedule
    constant)."""
    seed: int = 0
    """Random seed of data order, dropout, new weights, sampling and the bootstrap."""

    def total_steps(self, steps_per_epoch: int) -> int:
        """Number of optimizer steps of the whole run."""
        if self.steps is not None:
            return self.steps
        return max(1, math.ceil((DEFAULT_EPOCHS if self.epochs is None else self.epochs) * steps_per_epoch))

    def problems(self, world_size: int) -> list[str]:
        """Invalid settings, one message each.

        Args:
            world_size: number of processes.
        """
        found = []
        if self.steps is not None and self.epochs is not None:
            found.append(f"--steps {self.steps} with --epochs {self.epochs}: use only one of them.")
        for name in ("steps", "epochs"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                found.append(f"{flag(name)} {value}: must be positive and finite.")
        found += at_least(
            self, {"global_batch_size": 1, "microbatch_size": 1, "warmup_steps": 0, "seed": 0, "max_skipped_steps": 0}
        )
        if self.learning_rate != "auto" and not 0 < self.learning_rate < math.inf:
            found.append(f"--learning-rate {self.learning_rate}: must be positive and finite.")
        for name in ("weight_decay", "max_grad_norm"):
            if not 0 <= getattr(self, name) < math.inf:
                found.append(f"{flag(name)} {getattr(self, name)}: must be at least 0 and finite.")
        if self.optimizer == "schedule_free" and self.schedule != "constant":
            found.append(
                f"--optimizer schedule_free with --schedule {self.schedule}: averaging the weights replaces a decaying "
                "learning rate. Add --schedule constant."
            )
        microbatch_size = 1 if self.microbatch_size == "auto" else self.microbatch_size
        if self.global_batch_size >= 1 and microbatch_size >= 1:
            found += _division_problems(self.global_batch_size, microbatch_size, world_size)
        return found


@dataclass(frozen=True)
class EngineConfig:
    """How a step is computed: precision, memory and speed. Its result stays the same up to rounding."""

    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Precision of matrix multiplications; trained weights stay in float32. auto: bf16 on GPUs that support it
    natively, fp16 on other GPUs, and fp32 on CPUs, even on those with instructions for bf16, where bf16 is faster."""
    gradient_checkpointing: bool = False
    """Store only each layer's input, and recompute its activations in the backward pass: less memory, a quarter to a
    third more time."""
    compile: bool = False
    """Compile the model's layers with torch.compile."""
    exact: bool = False
    """Bitwise identical results on 1, 2, 4, ... processes, at some cost in speed. The numbers of processes and of
    microbatches must be powers of two, and --threads must stay the same."""
    threads: int = 0
    """CPU threads per process; 0: divide the machine's cores evenly, or 1 with --exact."""

    def problems(self, training: TrainingConfig, world_size: int) -> list[str]:
        """Invalid settings, alone or combined with those of training, one message each.

        Args:
            training: batch sizes and optimizer.
            world_size: number of processes.
        """
        found = at_least(self, {"threads": 0}) + at_most(self, {"threads": MOST_THREADS})
        if training.optimizer != "adamw" and launcher_uses("DEEPSPEED"):
            found.append(
                f"--optimizer {training.optimizer} with DeepSpeed: ZeRO flattens and concatenates parameters, and only "
                "adamw can update those. Use --optimizer adamw, or launch/fsdp2.yaml."
            )
        return found + (self._exactness_problems(training, world_size) if self.exact else [])

    def _exactness_problems(self, training: TrainingConfig, world_size: int) -> list[str]:
        found = []
        if not is_power_of_two(world_size):
            found.append(
                f"--exact on {world_size} processes: sums are computed in a binary tree that is the same on 1, 2, 4, "
                "... processes. Use 1, 2, 4, ... processes."
            )
        size = training.microbatch_size
        if size == "auto":
            found.append(
                "--exact with --microbatch-size auto: the size would depend on the machine, and the result on the "
                "size. Use a number."
            )
        elif size > 0 and not is_power_of_two(training.global_batch_size // size):
            found.append(
                f"--exact with --global-batch-size {training.global_batch_size} and --microbatch-size {size}: "
                f"{training.global_batch_size // size} microbatches do not form a full binary tree. Use sizes that "
                "give 1, 2, 4, ... microbatches."
            )
        if self.compile:
            found.append("--exact with --compile: compiled kernels sum in another order. Omit one of them.")
        for plugin, name in (("FSDP", "FSDP"), ("DEEPSPEED", "DeepSpeed")):
            if launcher_uses(plugin):
                found.append(f"--exact with {name}: it sums gradients in another order. Omit --exact.")
        return found


def is_power_of_two(number: int) -> bool:
    """Whether a full binary tree with this number of leaves exists."""
    return number > 0 and number & (number - 1) == 0


def microbatch_sizes(global_batch_size: int, world_size: int) -> list[int]:
    """The microbatch sizes that divide a global batch into equal shares of whole microbatches, ascending."""
    return [size for size in range(1, global_batch_size + 1) if global_batch_size % (size * world_size) == 0]


def _division_problems(global_batch_size: int, microbatch_size: int, world_size: int) -> list[str]:
    unit = microbatch_size * world_size
    if global_batch_size % unit == 0:
        return []
    valid = microbatch_sizes(global_batch_size, world_size)
    larger = -(-global_batch_size // unit) * unit
    remedy = f"--microbatch-size {' or '.join(map(str, valid))}, or " if valid else ""
    processes = "1 process" if world_size == 1 else f"{world_size} processes"
    return [
        f"--global-batch-size {global_batch_size} with --microbatch-size {microbatch_size} on {processes}: "
        "the batch does not divide into equal shares of whole microbatches. "
        f"Use {remedy}--global-batch-size {larger}."
    ]
