"""The loss curve and the bars of perplexity."""

import pytest

from textgen.reporting.figures import curves


@pytest.mark.parametrize("metrics", [[], [{"step": 1, "train/loss": None}]])
def test_without_a_loss_there_is_no_curve(metrics):
    assert curves.loss_curve(metrics) is None


@pytest.mark.parametrize(
    "perplexity",
    [
        {},
        {"model": {"bits_per_byte": 1.0}},
        {"before": {"bits_per_byte": None}, "after": {"bits_per_byte": 1.0}},
    ],
)
def test_without_two_perplexities_there_are_no_bars(perplexity):
    assert curves.perplexity_bars(perplexity) is None


def test_missing_values_are_skipped_and_a_single_point_is_visible(perplexity):
    assert "<use" in curves.loss_curve([{"step": 5, "train/loss": 3.0}, {"step": 6, "train/loss": None}])
    bars = curves.perplexity_bars({"before": perplexity(2.0, bits_per_byte_interval=None), "after": perplexity(1.0)})
    assert "before 2.000, after 1.000" in bars
