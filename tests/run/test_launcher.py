"""Fewer processes than requested are noticed, from the launcher's own command line."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from textgen.errors import UserError
from textgen.run import launcher
from textgen.run.launcher import check_launcher, launching_command, requested_processes

ROOT = Path(__file__).parents[2]
ACCELERATE = Path(sys.executable).with_name("accelerate")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], None),
        (["--num_processes", "3"], 3),
        (["--num-processes=3", "--cpu"], 3),
        (["--config_file", "made.yaml"], 5),
        (["--config_file", "made.yaml", "--num_processes", "2"], 2),
        (["--config_file", "nowhere.yaml"], None),
        (["--num_processes", "many"], None),
    ],
)
def test_the_number_of_processes_is_in_the_options_or_in_their_file(options, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    Path("made.yaml").write_text("num_processes: 5\n", encoding="utf-8")
    assert requested_processes(options) == expected


def test_the_default_file_is_the_one_of_accelerate_config(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    (tmp_path / "accelerate").mkdir()
    (tmp_path / "accelerate" / "default_config.yaml").write_text("num_processes: 4\n", encoding="utf-8")
    assert requested_processes(["--cpu"]) == 4


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["/usr/bin/python", "/x/bin/accelerate", "launch", "--cpu", "a.py"], ["--cpu", "a.py"]),
        (["/usr/bin/python", "/x/bin/accelerate-launch", "a.py"], ["a.py"]),
        (["python", "/site/accelerate/commands/launch.py", "a.py"], ["a.py"]),
        (["python", "-m", "accelerate.commands.launch", "a.py"], ["a.py"]),
        (["torchrun", "--nproc-per-node", "2", "a.py"], None),
        (["bash"], None),
        ([], None),
    ],
)
def test_the_launching_command_is_recognized(monkeypatch, words, expected):
    class Parent:
        def cmdline(self) -> list[str]:
            return words

    monkeypatch.setattr(psutil.Process, "parent", lambda self: Parent())
    assert launching_command() == expected


def test_fewer_processes_than_requested_are_an_error(monkeypatch):
    monkeypatch.setattr(launcher, "launching_command", lambda: ["--num_processes", "2", "recipes/finetune.py"])
    monkeypatch.setenv("WORLD_SIZE", "2")
    check_launcher()
    monkeypatch.delenv("WORLD_SIZE")
    with pytest.raises(UserError, match="started 1 of 2 requested processes"):
        check_launcher()


@pytest.mark.slow
def test_a_launch_of_too_few_processes_ends_with_the_command_that_starts_enough(tmp_path):
    script = tmp_path / "made.py"
    script.write_text("from textgen.run.launcher import check_launcher\ncheck_launcher()\n", encoding="utf-8")
    command = [str(ACCELERATE), "launch", "--cpu", "--num_processes", "2", str(script), "--steps", "3"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert ended.returncode != 0
    remedy = f"accelerate launch --config_file launch/multi_cpu.yaml --num_processes 2 {script} --steps 3"
    assert remedy in ended.stderr
    ended = subprocess.run(
        [*command[:2], "--num_processes", "1", str(script)], capture_output=True, text=True, cwd=ROOT
    )
    assert ended.returncode == 0, ended.stderr
