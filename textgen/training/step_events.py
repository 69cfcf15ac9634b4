"""Steps that need a look: skipped, since a number is not finite, or with a loss far above the recent ones.

They are recorded in ``events.jsonl``, with the documents of the step. A skipped step leaves the weights as they are; a
spike in the loss changes nothing.

A spike is a loss above the median of the last 64 by more than seven standard deviations. That is the rule of OLMo 2's
spike score (arXiv 2501.00656, section 3), but for the median and 1.4826 times the median absolute deviation in place of
mean and standard deviation, which an earlier spike would inflate (Iglewicz and Hoaglin 1993).
"""

import math
import statistics
from collections.abc import Sequence
from typing import Any

from textgen.errors import Diverged
from textgen.training.step import StepResult
from textgen.training.train_state import TrainState

DEVIATIONS = 7.0
FEWEST = 16  # losses to compare with
_SMALLEST_DEVIATION = 0.01  # of the median: losses that hardly vary, as of one repeated text, have no spikes
_SIGMA = 1.4826  # standard deviations in a median absolute deviation, of a normal distribution


def state_after(state: TrainState, step: int, result: StepResult, learning_rate: float) -> TrainState:
    """The state after a step with this result and learning rate."""
    if result.skipped:
        metrics = result.metrics(learning_rate=learning_rate, targets=state.targets)
        return state.after_skipping(step, metrics)
    metrics = result.metrics(learning_rate=learning_rate, targets=state.targets + result.targets)
    return state.after(step, result.targets, result.loss, metrics)


def step_event(state: TrainState, step: int, result: StepResult) -> dict[str, Any] | None:
    """The row of ``events.jsonl`` about a step, but for its documents; None if there is nothing to say.

    Args:
        state: the state before the step.
        step: its number.
        result: its result.
    """
    numbers = {"loss": _as_json(result.loss), "grad_norm": _as_json(result.grad_norm)}
    if result.skipped:
        return {"step": step, "kind": "skipped", **numbers, "in_a_row": state.skipped + 1}
    limit = spike_limit(state.losses)
    if limit is not None and result.loss > limit:
        return {"step": step, "kind": "spike", **numbers, "limit": limit}
    return None


def spike_limit(losses: Sequence[float]) -> float | None:
    """The loss above which the next one is a spike; None if there are too few losses to tell."""
    if len(losses) < FEWEST:
        return None
    median = statistics.median(losses)
    deviation = _SIGMA * statistics.median(abs(loss - median) for loss in losses)
    return median + DEVIATIONS * max(deviation, _SMALLEST_DEVIATION * abs(median))


def describe_event(event: dict[str, Any]) -> str:
    """A row of ``events.jsonl`` as a line for the console."""
    where = f"{len(event['documents']):,} documents, named in events.jsonl"
    if event["kind"] == "skipped":
        numbers = f"loss {event['loss']}, gradient norm {event['grad_norm']}"
        return f"step {event['step']}: skipped, {numbers} ({event['in_a_row']} in a row; {where})"
    return f"step {event['step']}: loss {event['loss']:.3f} is a spike, above {event['limit']:.3f} ({where})"


def check_skipped(state: TrainState, result: StepResult, limit: int) -> None:
    """Check that no more steps were skipped in a row than ``--max-skipped-steps`` allows.

    Args:
        state: the state after the step.
        result: the result of the step.
        limit: how many may be.

    Raises:
        Diverged: more were.
    """
    if state.skipped > limit:
        skipped = "" if state.skipped == 1 else f", the last of {state.skipped} skipped steps in a row"
        raise Diverged(
            f"step {state.step}: loss {result.loss}, gradient norm {result.grad_norm}{skipped}. Lower --learning-rate "
            "or --max-grad-norm, or look at the documents in events.jsonl. Every checkpoint is from before."
        )


def _as_json(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)  # JSON has no numbers that are not finite
