"""The state of a training run: tokens are counted, and the best evaluation is remembered."""

from textgen.training.train_state import TrainState


def test_the_state_counts_targets():
    assert TrainState().after(1, 100).after(2, 50) == TrainState(step=2, targets=150)


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
