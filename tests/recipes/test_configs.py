"""Every YAML file that ships is loaded, so that none can rot."""

from pathlib import Path

import pytest
import yaml
from running import ROOT

CONFIGS = sorted((ROOT / "recipes/configs").glob("*.yaml"))
LAUNCHERS = sorted((ROOT / "launch").glob("*.yaml"))


def test_none_was_missed() -> None:
    assert len(CONFIGS) == 4
    assert len(LAUNCHERS) == 3


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_passes_every_check(path: Path, run_recipe, tmp_path) -> None:
    ran = run_recipe("finetune", "--config", path, "--dry-run", cwd=tmp_path)
    assert "everything checks out" in ran.out
    assert not list(tmp_path.iterdir()), "a dry run writes nothing"
    first = path.read_text().splitlines()[0]
    assert first.startswith("# ")
    assert f"recipes/finetune.py --config recipes/configs/{path.name}" in first


@pytest.mark.parametrize("path", LAUNCHERS, ids=lambda path: path.stem)
def test_a_launch_file_is_one_that_accelerate_loads(path: Path) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    loaded = load_config_from_file(str(path))
    assert loaded.num_processes == yaml.safe_load(path.read_text())["num_processes"]
