"""Where the time of a run went."""

import pytest

from textgen.reporting import step_clock
from textgen.reporting.step_clock import StepClock


@pytest.fixture
def at(monkeypatch):
    """Sets the time."""
    now = [0.0]
    monkeypatch.setattr(step_clock.time, "monotonic", lambda: now[0])
    return lambda seconds: now.__setitem__(0, seconds)


def test_what_is_before_a_step_is_saving_and_what_is_after_the_last_is_evaluation(at):
    clock = StepClock()
    at(100)
    clock.add_step(2.0, 50)  # what was before the first step is neither
    at(105)
    clock.add_step(4.0, 50)  # a second between the two
    assert (clock.seconds, clock.speed) == (6.0, 100 / 6)
    at(108)
    assert clock.row() == {
        "seconds": 6.0, "tokens_per_second": 100 / 6, "steps": 2, "evaluation_seconds": 3.0, "saving_seconds": 1.0
    }  # fmt: skip
    at(110)
    clock.add_step(1.5, 30)  # half a second of saving after the row
    assert clock.row() == {
        "seconds": 1.5, "tokens_per_second": 20.0, "steps": 1, "evaluation_seconds": 0.0, "saving_seconds": 0.5
    }  # fmt: skip


def test_a_row_without_a_step_has_no_speed(at):
    assert StepClock().row() == {
        "seconds": 0.0, "tokens_per_second": 0.0, "steps": 0, "evaluation_seconds": 0.0, "saving_seconds": 0.0
    }  # fmt: skip
