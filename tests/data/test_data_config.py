"""Settings of the data."""

import pytest

from textgen.data.config import DataConfig


def test_the_defaults_are_valid():
    assert DataConfig().problems() == []
    assert DataConfig(validation_fraction=0.001, block_size=2).problems() == []


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"validation_fraction": 0.0}, "--validation-fraction 0.0: must be between 0 and 1, such as 0.1."),
        ({"validation_fraction": 1.0}, "--validation-fraction 1.0: must be between 0 and 1, such as 0.1."),
        ({"block_size": 1}, "--block-size 1: must be at least 2, to predict one token from another."),
    ],
)
def test_an_invalid_setting_is_named(setting, message):
    [problem] = DataConfig(**setting).problems()
    assert problem.startswith(message)


def test_all_invalid_settings_are_named():
    assert len(DataConfig(validation_fraction=2.0, block_size=0).problems()) == 2
