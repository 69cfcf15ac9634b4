"""Configurations of the recipes, from command lines."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from recipe_modules import CONFIG_CLASSES

from textgen.config import parse
from textgen.data.sources import DataSources
from textgen.plan import check
from textgen.plan.check import Checked, check_evaluation, check_finetuning


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def checked() -> Callable[..., Checked]:
    """``checked("--steps", 3)``: what the checks of finetune.py find, or with ``recipe="evaluate"`` of evaluate.py."""

    def run(*flags: object, recipe: str = "finetune") -> Checked:
        config: Any = parse(CONFIG_CLASSES[recipe], [str(flag) for flag in flags])
        return {"finetune": check_finetuning, "evaluate": check_evaluation}[recipe](config, config.directory())

    return run


@pytest.fixture
def no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """Data is not searched for: in tests of everything else."""
    monkeypatch.setattr(check, "find_data", lambda config: DataSources([]))
