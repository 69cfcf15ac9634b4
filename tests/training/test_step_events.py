"""What a step is recorded for: a number that is not finite, or a loss far above the recent ones."""

import math

import numpy as np
import pytest

from textgen.errors import Diverged
from textgen.training.step import StepResult
from textgen.training.step_events import FEWEST, check_skipped, describe_event, spike_limit, state_after, step_event
from textgen.training.train_state import TrainState


def result(loss: float, grad_norm: float = 1.0) -> StepResult:
    return StepResult(loss, grad_norm, targets=10, seconds=1.0)


def noisy(steps: int, seed: int = 0) -> list[float]:
    """Losses of training: falling, with noise."""
    noise = np.random.default_rng(seed).normal(0, 0.05, steps)
    return [float(2 + 3 * math.exp(-step / 100) + noise[step]) for step in range(steps)]


def events(losses: list[float]) -> list[tuple[int, str]]:
    state, found = TrainState(), []
    for step, loss in enumerate(losses, start=1):
        event = step_event(state, step, result(loss))
        state = state_after(state, step, result(loss), 0.1)
        found += [(step, event["kind"])] if event else []
    return found


@pytest.mark.parametrize("seed", range(5))
def test_noise_is_no_spike(seed):
    assert events(noisy(2000, seed)) == []


def test_a_spike_is_flagged_and_does_not_hide_the_next_one():
    losses = noisy(400)
    for step in (150, 151, 200, 300):
        losses[step - 1] += 2.0
    assert events(losses) == [(step, "spike") for step in (150, 151, 200, 300)]


def test_a_loss_that_stays_higher_is_a_spike_until_the_recent_ones_are_as_high():
    losses = [*noisy(200), *(5 + 0.1 * (step % 3) for step in range(200))]
    steps = [step for step, _ in events(losses)]
    assert steps == list(range(201, 201 + len(steps)))
    assert 20 < len(steps) < 64


def test_a_limit_needs_some_losses_and_allows_a_hundredth_where_they_are_all_the_same():
    assert spike_limit([1.0] * (FEWEST - 1)) is None
    assert spike_limit([1.0] * FEWEST) == pytest.approx(1.07)
    assert spike_limit([0.0] * FEWEST) == 0.0


@pytest.mark.parametrize(
    ("loss", "grad_norm", "expected"),
    [
        (math.nan, math.nan, {"loss": "nan", "grad_norm": "nan"}),
        (math.inf, 1.0, {"loss": "inf", "grad_norm": 1.0}),
        (2.5, math.inf, {"loss": 2.5, "grad_norm": "inf"}),
    ],
)
def test_a_skipped_step_is_recorded_with_its_numbers_and_counted(loss, grad_norm, expected):
    before = TrainState(step=6, targets=60, skipped=1, losses=(3.0,))
    event = step_event(before, 7, result(loss, grad_norm))
    assert event == {"step": 7, "kind": "skipped", **expected, "in_a_row": 2}
    after = state_after(before, 7, result(loss, grad_norm), 0.1)
    assert (after.step, after.targets, after.skipped, after.losses) == (7, 60, 2, (3.0,))
    assert after.metrics.items() >= {"train/learning_rate": 0.1, "train/tokens": 60, "train/skipped": 1}.items()


def test_more_skipped_steps_in_a_row_than_allowed_end_the_run():
    state, bad = TrainState(step=4), result(math.nan, math.inf)
    for step in (5, 6):
        state = state_after(state, step, bad, 0.1)
        check_skipped(state, bad, 2)
    state = state_after(state, 7, bad, 0.1)
    with pytest.raises(Diverged, match=r"step 7: loss nan, gradient norm inf, the last of 3 skipped steps"):
        check_skipped(state, bad, 2)
    state = state_after(state_after(state, 8, result(2.0), 0.1), 9, bad, 0.1)
    check_skipped(state, bad, 2)
    with pytest.raises(Diverged, match=r"step 9: loss nan, gradient norm inf\. Lower --learning-rate"):
        check_skipped(state, bad, 0)


def test_an_event_is_a_line():
    skipped = {"step": 7, "kind": "skipped", "loss": "nan", "grad_norm": "inf", "in_a_row": 2, "documents": ["a", "b"]}
    assert describe_event(skipped) == (
        "step 7: skipped, loss nan, gradient norm inf (2 in a row; 2 documents, named in events.jsonl)"
    )
    spike = {"step": 9, "kind": "spike", "loss": 7.12, "grad_norm": 3.0, "limit": 4.0, "documents": ["a"]}
    assert describe_event(spike) == "step 9: loss 7.120 is a spike, above 4.000 (1 documents, named in events.jsonl)"
