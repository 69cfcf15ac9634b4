"""The state of a training run: tokens are counted, and the best evaluation and the last losses are remembered."""

import json
from dataclasses import asdict

from textgen.training.train_state import RECENT, TrainState


def test_the_state_counts_targets():
    assert TrainState().after(1, 100).after(2, 50).recorded() == TrainState(step=2, targets=150)


def test_skipped_steps_are_counted_until_one_is_not_skipped():
    trained = TrainState().after(1, 100, 3.5)
    twice = trained.after_skipping(2).after_skipping(3)
    assert twice.recorded() == TrainState(step=3, targets=100, skipped=2, losses=(3.5,))
    assert twice.after(4, 50, 3.0).recorded() == TrainState(step=4, targets=150, losses=(3.5, 3.0))


def test_the_last_losses_are_kept():
    state = TrainState()
    for step in range(1, RECENT + 11):
        state = state.after(step, 1, float(step))
    assert state.losses == tuple(map(float, range(11, RECENT + 11)))
    assert TrainState.from_json(json.loads(json.dumps(asdict(state)))) == state


def test_the_state_remembers_the_best_evaluation():
    first = TrainState().after(10, 1).evaluated(2.0)
    assert (first.best_step, first.best_value, first.is_best) == (10, 2.0, True)
    later = first.after(20, 1)
    assert not later.is_best
    for not_better in (2.0, 2.5):
        assert later.evaluated(not_better) == later
    better = later.evaluated(1.5)
    assert (better.best_step, better.best_value, better.is_best) == (20, 1.5, True)
    assert not TrainState().is_best, "nothing has been evaluated"


def test_until_what_follows_a_step_is_done_the_step_is_the_first_to_go_on_with():
    assert TrainState().first_step == 1
    interrupted = TrainState().after(1, 10, 3.0, {"train/loss": 3.0})
    assert interrupted.first_step == 1
    assert interrupted.metrics == {"train/loss": 3.0}
    assert TrainState.from_json(json.loads(json.dumps(asdict(interrupted)))) == interrupted
    assert interrupted.recorded().first_step == 2
