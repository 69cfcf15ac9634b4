"""Settings of experiment tracking."""

import pytest

from textgen.reporting.config import TrackingConfig


@pytest.mark.parametrize(
    ("settings", "mode"),
    [
        ({}, "auto"),
        ({"wandb_mode": "online"}, "online"),
        ({"track": "none"}, "disabled"),
        ({"track": "none", "wandb_mode": "online"}, "disabled"),
    ],
)
def test_without_wandb_as_the_tracker_it_is_disabled(settings, mode):
    assert TrackingConfig(**settings).mode == mode
