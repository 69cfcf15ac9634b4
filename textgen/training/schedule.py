"""The learning rate as a pure function of the step."""

import math

from textgen.training.config import TrainingConfig

FINAL_FRACTION = 0.1  # of the peak, where cosine and linear decay end, as in nanoGPT


def learning_rate_at(step: int, config: TrainingConfig, total_steps: int) -> float:
    """The learning rate of a step; steps count from 1.

    It rises linearly to its peak during the warm-up. Then it decays to a tenth of the peak along half a cosine or a
    line, or stays constant.
    """
    warmup = min(config.warmup_steps, total_steps)
    if step <= warmup:
        return config.learning_rate * step / warmup
    progress = (step - warmup) / max(1, total_steps - warmup)
    remaining = {"cosine": (1 + math.cos(math.pi * progress)) / 2, "linear": 1 - progress, "constant": 1.0}
    return config.learning_rate * (FINAL_FRACTION + (1 - FINAL_FRACTION) * remaining[config.schedule])
