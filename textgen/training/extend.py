"""Whether a run can go on with another number of steps: all that were done must have had the same learning rates."""

from dataclasses import replace

from textgen.training.auto import auto_warmup_steps
from textgen.training.config import TrainingConfig
from textgen.training.schedule import learning_rate_at


def first_other_rate(
    done: int, before: TrainingConfig, before_total: int, now: TrainingConfig, total: int
) -> int | None:
    """The first of the steps that were done that would have another learning rate in the run of another length.

    If there is none, and the two runs differ in nothing else, the checkpoint after these steps is one of both.

    Args:
        done: number of steps that were done.
        before: settings of the run that did them; numbers for the learning rate and the warm-up.
        before_total: its number of steps.
        now: settings of the other run; "auto" is resolved.
        total: its number of steps.
    """
    now = resolved(now, before, total)
    for step in range(1, done + 1):
        if learning_rate_at(step, before, before_total) != learning_rate_at(step, now, total):
            return step
    return None


def resolved(now: TrainingConfig, before: TrainingConfig, total: int) -> TrainingConfig:
    """The settings with numbers for "auto": the peak does not depend on the length, and the warm-up does."""
    rate = before.learning_rate if now.learning_rate == "auto" else now.learning_rate
    warmup = auto_warmup_steps(total) if now.warmup_steps == "auto" else now.warmup_steps
    return replace(now, learning_rate=rate, warmup_steps=warmup)
