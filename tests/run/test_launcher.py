"""Fewer processes than were asked for are noticed, from the launcher's own command line."""

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
    ("options", "asked"),
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
def test_options_and_the_file_they_name_say_how_many(options, asked, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    Path("made.yaml").write_text("num_processes: 5\n")
    assert requested_processes(options) == asked


def test_without_a_file_it_is_the_one_that_accelerate_config_wrote(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    (tmp_path / "accelerate").mkdir()
    (tmp_path / "accelerate" / "default_config.yaml").write_text("num_processes: 4\n")
    assert requested_processes(["--cpu"]) == 4


@pytest.mark.parametrize(
    ("words", "after"),
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
def test_the_launching_command_is_recognised(monkeypatch, words, after):
    class Parent:
        def cmdline(self) -> list[str]:
            return words

    monkeypatch.setattr(psutil.Process, "parent", lambda self: Parent())
    assert launching_command() == after


def test_as_many_as_were_asked_for_are_fine(monkeypatch):
    monkeypatch.setattr(launcher, "launching_command", lambda: ["--num_processes", "2", "recipes/finetune.py"])
    monkeypatch.setenv("WORLD_SIZE", "2")
    check_launcher()
    monkeypatch.delenv("WORLD_SIZE")
    with pytest.raises(UserError, match="asked for 2 processes and started 1"):
        check_launcher()


def test_a_launcher_that_starts_too_few_is_refused_with_the_command_that_does_not(tmp_path):
    script = tmp_path / "made.py"
    script.write_text("from textgen.run.launcher import check_launcher\ncheck_launcher()\n")
    command = [str(ACCELERATE), "launch", "--cpu", "--num_processes", "2", str(script), "--steps", "3"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert ended.returncode != 0
    remedy = f"accelerate launch --config_file launch/multi_cpu.yaml --num_processes 2 {script} --steps 3"
    assert remedy in ended.stderr
    ended = subprocess.run(
        [*command[:2], "--num_processes", "1", str(script)], capture_output=True, text=True, cwd=ROOT
    )
    assert ended.returncode == 0, ended.stderr
