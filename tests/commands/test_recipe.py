"""``textgen finetune`` and ``textgen evaluate``: the command that they stand for."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from textgen.commands import recipe
from textgen.commands.recipe import launch_command, recipe_path, visible_gpus
from textgen.commands.table import run_command
from textgen.errors import UserError

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["finetune", "evaluate"])
def test_the_recipes_of_the_clone_are_found(name):
    assert recipe_path(name) == ROOT / "recipes" / f"{name}.py"


def test_without_the_repository_the_message_says_where_recipes_are(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(recipe, "_CLONE", tmp_path)
    with pytest.raises(UserError, match="recipes are in the repository"):
        recipe_path("finetune")
    monkeypatch.setattr(sys, "argv", ["textgen"])
    with pytest.raises(SystemExit) as ended:
        run_command(["finetune"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("error: textgen finetune: ")


def test_gpus_are_counted_by_their_device_files(tmp_path):
    assert visible_gpus(tmp_path, {}) == 0
    for name in ("nvidia0", "nvidia1", "nvidia12", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / name).touch()
    assert visible_gpus(tmp_path, {}) == 3
    assert visible_gpus(tmp_path, {"CUDA_VISIBLE_DEVICES": "1,12"}) == 2
    assert visible_gpus(tmp_path, {"CUDA_VISIBLE_DEVICES": ""}) == 0
    assert visible_gpus(tmp_path, {"CUDA_VISIBLE_DEVICES": "-1"}) == 0


def test_several_gpus_get_a_process_each():
    path = Path("finetune.py")
    for gpus in (0, 1):
        assert launch_command(path, ["--steps", "1"], gpus) == [sys.executable, "finetune.py", "--steps", "1"]
    command = launch_command(path, ["--steps", "1"], 8)
    assert command[1:3] == ["-m", "accelerate.commands.launch"]
    assert Path(command[command.index("--config_file") + 1]).is_file()
    assert command[command.index("--num_processes") + 1 :] == ["8", "finetune.py", "--steps", "1"]


@pytest.mark.parametrize("name", ["finetune", "evaluate"])
def test_help_is_that_of_the_recipe(name):
    done = subprocess.run(
        [sys.executable, "-m", "textgen", name, "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(f"usage: {ROOT}/recipes/{name}.py")
    assert done.stderr == ""


def test_the_exit_code_is_that_of_the_recipe_and_the_first_line_is_its_command(tmp_path):
    started = time.monotonic()
    with subprocess.Popen(
        [sys.executable, "-m", "textgen", "finetune", "--data", str(tmp_path / "no such file.txt")],
        cwd=tmp_path, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
    ) as process:  # fmt: skip
        assert process.stderr is not None
        first = process.stderr.readline()
        assert time.monotonic() - started < 20
        rest = process.stderr.read()
    assert first.startswith("+ ")
    assert f"{ROOT}/recipes/finetune.py --data" in first
    assert "no such file.txt" in rest
    assert process.returncode == 2
