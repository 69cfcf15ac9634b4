"""The learning rate as a pure function of the step."""

import math
from collections.abc import Callable

from textgen.training.config import TrainingConfig

FINAL_FRACTION = 0.1  # of the peak, where cosine and linear decay end, as in nanoGPT

# A value of `--schedule` → what remains of the decay, from 1 to 0, as the steps after the warm-up go from 0 to 1.
SCHEDULES: dict[str, Callable[[float], float]] = {
    "cosine": lambda progress: (1 + math.cos(math.pi * progress)) / 2,
    "linear": lambda progress: 1 - progress,
    "constant": lambda progress: 1.0,
}


def learning_rate_at(step: int, config: TrainingConfig, total_steps: int) -> float:
    """The learning rate of a step; steps count from 1.

    It rises linearly to its peak during the warm-up. Then it decays to a tenth of the peak, or stays constant, as
    :data:`SCHEDULES` says.
    """
    peak = config.learning_rate
    assert peak != "auto", "textgen.plan.resolve"
    assert config.warmup_steps != "auto", "textgen.plan.resolve"
    warmup = min(config.warmup_steps, total_steps)
    if step <= warmup:
        return peak * step / warmup
    progress = (step - warmup) / max(1, total_steps - warmup)
    remaining = SCHEDULES[config.schedule](progress)
    return peak * (FINAL_FRACTION + (1 - FINAL_FRACTION) * remaining)
