"""``--learning-rate auto`` and ``--warmup-steps auto``: numbers from the model, the method and the length of the run.

The rates are published ones, and our own measurements (benchmarks/learning_rates.py) where there are none or where they
differ much; docs/training.md has the sources.
"""

import math
from collections.abc import Sequence

# What is trained → learning rates of AdamW by number of parameters, ascending; log-log linear in between.
LEARNING_RATES: dict[str, Sequence[tuple[float, float]]] = {
    "full": ((1.35e6, 1e-3), (135e6, 2e-4), (7e9, 2e-5), (70e9, 1e-5)),
    "adapters": ((1.35e6, 5e-3), (135e6, 2e-3), (7e9, 2e-4), (65e9, 1e-4)),
    "from scratch": ((1.35e6, 2.5e-3), (125e6, 6e-4), (1.3e9, 2e-4), (6.7e9, 1.2e-4), (175e9, 6e-5)),
}
WARMUP_FRACTION = 0.1
LONGEST_WARMUP = 500


def auto_learning_rate(parameters: int, *, method: str, from_scratch: bool = False) -> float:
    """The peak learning rate for a model, rounded to two digits.

    Args:
        parameters: number of parameters of the whole model.
        method: ``--method``.
        from_scratch: the weights are random.
    """
    kind = "from scratch" if from_scratch else "full" if method == "full" else "adapters"
    sizes, rates = zip(*LEARNING_RATES[kind], strict=True)
    i = max(1, min(len(sizes) - 1, sum(size < parameters for size in sizes)))
    share = math.log(parameters / sizes[i - 1]) / math.log(sizes[i] / sizes[i - 1])
    rate = rates[i - 1] * (rates[i] / rates[i - 1]) ** min(1.0, max(0.0, share))
    return float(f"{rate:.1e}")


def auto_warmup_steps(total_steps: int) -> int:
    """A tenth of the run, at most 500 steps."""
    return min(LONGEST_WARMUP, math.ceil(WARMUP_FRACTION * total_steps))
