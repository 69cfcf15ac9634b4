"""The learning rate as a pure function of the step."""

from itertools import pairwise
from typing import get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from textgen.training.config import TrainingConfig
from textgen.training.schedule import SCHEDULES, learning_rate_at

# Step → the learning rate as a share of the peak, for 12 steps of which 4 are the warm-up.
BY_HAND = {
    "cosine": {1: 0.25, 2: 0.5, 4: 1.0, 5: 0.965_745_789_6, 8: 0.55, 12: 0.1},
    "linear": {1: 0.25, 2: 0.5, 4: 1.0, 5: 0.8875, 8: 0.55, 12: 0.1},
    "constant": {1: 0.25, 2: 0.5, 4: 1.0, 5: 1.0, 8: 1.0, 12: 1.0},
}


def test_every_value_of_the_flag_has_a_schedule_and_values_by_hand():
    assert set(SCHEDULES) == set(get_args(get_type_hints(TrainingConfig)["schedule"])) == set(BY_HAND)


@pytest.mark.parametrize(("schedule", "expected"), BY_HAND.items())
def test_learning_rates_by_hand(schedule, expected):
    config = TrainingConfig(learning_rate=2e-3, schedule=schedule, warmup_steps=4)
    for step, share in expected.items():
        assert learning_rate_at(step, config, 12) == pytest.approx(2e-3 * share, rel=1e-9), step


def test_without_a_warm_up_the_first_step_is_past_the_peak():
    config = TrainingConfig(learning_rate=1.0, schedule="linear", warmup_steps=0)
    assert learning_rate_at(1, config, 10) == pytest.approx(0.91)
    assert learning_rate_at(1, config, 1) == pytest.approx(0.1)


@given(
    schedule=st.sampled_from(sorted(SCHEDULES)),
    peak=st.floats(1e-6, 1.0),
    warmup=st.integers(0, 60),
    total=st.integers(1, 100),
)
def test_the_learning_rate_rises_to_its_peak_and_then_never_again(schedule, peak, warmup, total):
    config = TrainingConfig(learning_rate=peak, schedule=schedule, warmup_steps=warmup)
    rates = [learning_rate_at(step, config, total) for step in range(1, total + 1)]
    assert all(0 < rate <= peak * (1 + 1e-12) for rate in rates)
    top = min(warmup, total)
    assert all(a < b for a, b in pairwise(rates[:top]))
    assert all(a >= b * (1 - 1e-12) for a, b in pairwise(rates[top:]))
    if 0 < warmup <= total:
        assert rates[warmup - 1] == pytest.approx(peak)
    if total > warmup:
        assert rates[-1] == pytest.approx(peak if schedule == "constant" else peak / 10)
