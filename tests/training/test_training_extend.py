"""Which runs can go on with another number of steps."""

from dataclasses import replace

import pytest

from textgen.training.config import TrainingConfig
from textgen.training.extend import first_other_rate, resolved

CONSTANT = TrainingConfig(learning_rate=1e-3, warmup_steps=4, schedule="constant")


@pytest.mark.parametrize("done", [0, 4, 5, 40])
@pytest.mark.parametrize("total", [41, 80])
def test_a_constant_schedule_goes_on_at_every_step(done, total):
    assert first_other_rate(done, CONSTANT, 40, CONSTANT, total) is None


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_a_decay_that_has_begun_depends_on_the_length(schedule):
    decaying = replace(CONSTANT, schedule=schedule)
    assert first_other_rate(4, decaying, 40, decaying, 80) is None, "the warm-up is the same"
    assert first_other_rate(5, decaying, 40, decaying, 80) == 5
    assert first_other_rate(40, decaying, 40, decaying, 80) == 5
    assert first_other_rate(40, decaying, 40, decaying, 40) is None


def test_another_warm_up_peak_or_schedule_is_noticed():
    assert first_other_rate(9, CONSTANT, 40, replace(CONSTANT, warmup_steps=5), 80) == 1
    assert first_other_rate(9, CONSTANT, 40, replace(CONSTANT, learning_rate=2e-3), 80) == 1
    assert first_other_rate(9, CONSTANT, 40, replace(CONSTANT, schedule="linear"), 80) == 5


def test_auto_is_what_the_run_of_that_length_would_choose():
    auto = replace(CONSTANT, learning_rate="auto", warmup_steps="auto")
    assert resolved(auto, CONSTANT, 40) == CONSTANT
    assert resolved(auto, CONSTANT, 80).warmup_steps == 8
    assert first_other_rate(9, CONSTANT, 40, auto, 40) is None
    assert first_other_rate(9, CONSTANT, 40, auto, 80) == 1
    assert first_other_rate(0, CONSTANT, 40, auto, 80) is None
