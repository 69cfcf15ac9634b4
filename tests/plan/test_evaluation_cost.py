"""The cost of evaluation that the dry run prints: amounts of text, and their share of the time of training."""

from pathlib import Path

import pytest

from textgen.data.config import DataConfig
from textgen.data.sources import find_data
from textgen.plan.evaluation_cost import EvaluationCost, retained_tokens, text_tokens


def test_what_is_scored_costs_a_third_of_training_on_it() -> None:
    cost = EvaluationCost(30_000, 6_000, available=1e6, every=50, step_tokens=2_000, steps=100)
    assert str(cost) == (
        "about 30,000 tokens (the time of 5.0 training steps) of held-out text before and after training; about 6,000 "
        "tokens (the time of 1.0 training steps) every 50 steps; in all about 12 % of the time of training"
    )
    assert cost.share_of_training() == pytest.approx((2 * 5 + 2 * 1) / 100)


def test_no_more_is_scored_than_there_is() -> None:
    cost = EvaluationCost("all", 6_000, available=3_000, every=50, step_tokens=1_000, steps=10)
    assert cost.share_of_training() == pytest.approx((2 * 1 + 1) / 10)
    assert str(cost).count("about 3,000 tokens") == 2


def test_without_evaluations_during_training_there_is_one_at_the_end() -> None:
    cost = EvaluationCost("all", "all", available=3_000, every=0, step_tokens=1_000, steps=100)
    assert cost.share_of_training() == pytest.approx((2 * 1 + 1) / 100)
    assert "every" not in str(cost)


def test_text_to_retain_is_scored_twice_too() -> None:
    cost = EvaluationCost(30_000, 6_000, available=3_000, every=0, step_tokens=1_000, steps=100, retained=6_000)
    assert "training steps) of held-out text before and after training, and about 6,000 tokens (the" in str(cost)
    assert cost.share_of_training() == pytest.approx((2 * (1 + 2) + 1) / 100)
    unknown = EvaluationCost("all", 6_000, available=3_000, every=0, step_tokens=1_000, steps=100, retained=None)
    assert "after training, and all of the text to retain" in str(unknown)
    assert unknown.share_of_training() is None


def test_the_size_of_the_text_to_retain_comes_from_its_sources(tmp_path: Path) -> None:
    (tmp_path / "general.txt").write_text("x" * 400, encoding="utf-8")
    assert retained_tokens(find_data(DataConfig(retain_data=str(tmp_path / "general.txt")))) == 100
    assert retained_tokens(find_data(DataConfig())) == 0


def test_what_is_not_known_is_not_claimed() -> None:
    cost = EvaluationCost("all", 6_000, available=None, every=50, step_tokens=2_000, steps=100)
    assert str(cost) == (
        "all of held-out text before and after training; up to 6,000 tokens (the time of 1.0 training steps) every 50 "
        "steps"
    )
    assert cost.share_of_training() is None


def test_sizes_come_from_the_sources(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("é" * 2000, encoding="utf-8")
    (tmp_path / "held.txt").write_text("x" * 400, encoding="utf-8")
    one = DataConfig(data=str(tmp_path / "train.txt"), validation_fraction=0.25)
    assert text_tokens(one, find_data(one)) == (750, 250)
    two = DataConfig(data=str(tmp_path / "train.txt"), validation_data=str(tmp_path / "held.txt"))
    assert text_tokens(two, find_data(two)) == (1000, 100)
    bundled = DataConfig()
    train, held_out = text_tokens(bundled, find_data(bundled))
    assert train == pytest.approx(9 * held_out)
    assert 50_000 < train < 200_000
