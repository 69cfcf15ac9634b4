"""The learning rate, a pure function of the step."""

import math

from textgen.training.config import TrainingConfig

FLOOR = 0.1  # share of the peak that decaying schedules end at, as in nanoGPT


def learning_rate_at(step: int, config: TrainingConfig, total_steps: int) -> float:
    """The learning rate of a step (steps count from 1).

    It rises linearly to its peak over the warm-up, then falls to a tenth of it along half a cosine or a line, or stays.
    """
    warmup = min(config.warmup_steps, total_steps)
    if step <= warmup:
        return config.learning_rate * step / warmup
    progress = (step - warmup) / max(1, total_steps - warmup)
    remaining = {"cosine": (1 + math.cos(math.pi * progress)) / 2, "linear": 1 - progress, "constant": 1.0}
    return config.learning_rate * (FLOOR + (1 - FLOOR) * remaining[config.schedule])
