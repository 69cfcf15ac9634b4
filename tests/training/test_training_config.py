"""Settings of training: an invalid value or combination is refused, with a remedy that works."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from textgen.training.config import TrainingConfig

sizes = st.integers(1, 64)


@pytest.mark.parametrize(
    ("length", "per_epoch", "total"),
    [
        ({}, 10, 10),
        ({"epochs": 2.0}, 10, 20),
        ({"epochs": 0.25}, 10, 3),
        ({"epochs": 1e-9}, 10, 1),
        ({"epochs": 2.5}, 3, 8),
        ({"steps": 7}, 10, 7),
    ],
)
def test_the_length_of_a_run_is_its_steps_or_its_epochs(length, per_epoch, total):
    assert TrainingConfig(**length).total_steps(per_epoch) == total


@pytest.mark.parametrize(
    ("invalid", "start"),
    [
        ({"steps": 5, "epochs": 1.0}, "--steps 5 with --epochs 1.0: use only one"),
        ({"steps": 0}, "--steps 0"),
        ({"epochs": -1.0}, "--epochs -1.0"),
        ({"epochs": math.nan}, "--epochs nan"),
        ({"epochs": math.inf}, "--epochs inf"),
        ({"seed": -1}, "--seed -1: must be at least 0"),
        ({"global_batch_size": 0}, "--global-batch-size 0"),
        ({"microbatch_size": 0}, "--microbatch-size 0"),
        ({"warmup_steps": -1}, "--warmup-steps -1"),
        ({"learning_rate": 0.0}, "--learning-rate 0.0"),
        ({"learning_rate": math.nan}, "--learning-rate nan"),
        ({"learning_rate": math.inf}, "--learning-rate inf"),
        ({"weight_decay": -0.1}, "--weight-decay -0.1"),
        ({"max_grad_norm": -1.0}, "--max-grad-norm -1.0"),
        ({"global_batch_size": 10, "microbatch_size": 4}, "--global-batch-size 10 with --microbatch-size 4"),
    ],
)
def test_an_invalid_setting_is_named(invalid, start):
    [problem] = TrainingConfig(**invalid).problems(world_size=1)
    assert problem.startswith(start)


def test_all_problems_are_reported_at_once():
    invalid = TrainingConfig(steps=0, learning_rate=-1.0, global_batch_size=6, microbatch_size=4)
    assert [problem.split()[0] for problem in invalid.problems(2)] == [
        "--steps",
        "--learning-rate",
        "--global-batch-size",
    ]


def test_weight_decay_clipping_and_warm_up_may_be_zero():
    assert TrainingConfig(weight_decay=0.0, max_grad_norm=0.0, warmup_steps=0).problems(1) == []


@given(batch=sizes, microbatch=sizes, world_size=st.integers(1, 9))
def test_for_batches_that_do_not_divide_the_message_suggests_sizes_that_do(batch, microbatch, world_size):
    def problems(batch: int, microbatch: int) -> list[str]:
        return TrainingConfig(global_batch_size=batch, microbatch_size=microbatch).problems(world_size)

    found = problems(batch, microbatch)
    assert bool(found) == (batch % (microbatch * world_size) != 0)
    for problem in found:
        remedy = problem.partition(". Use ")[2]
        microbatches, larger = re.fullmatch(
            r"(?:--microbatch-size (.*), or )?--global-batch-size (\d+)\.", remedy
        ).groups()  # type: ignore[union-attr]
        assert int(larger) >= batch
        assert problems(int(larger), microbatch) == []
        for size in microbatches.split(" or ") if microbatches else []:
            assert problems(batch, int(size)) == []
