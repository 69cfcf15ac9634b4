"""Machines as they are: terminals without UTF-8, homes that cannot be written, and a second run at the same time."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from running import LIGHT, QUICK, ROOT, read_lines, tree

from textgen.run.lock import take_lock

FINETUNE = [sys.executable, str(ROOT / "recipes/finetune.py")]


def test_a_run_in_a_directory_that_is_in_use_is_refused(run_recipe, text_file, tmp_path) -> None:
    (tmp_path / "run").mkdir()
    assert take_lock(tmp_path / "run")
    flags = (*LIGHT, "--data", text_file, "--run-dir", tmp_path / "run")
    for more in ([], ["--dry-run"]):
        ran = run_recipe("finetune", *flags, *more, check=False)
        assert ran.code == 2
        assert f"process {os.getpid()} on {socket.gethostname()} is writing to it" in ran.error
    assert list(tree(tmp_path / "run")) == [".lock"]


def test_a_finished_run_is_planned_and_left_alone(run_recipe, plain, text_file) -> None:
    before = tree(plain)
    ran = run_recipe("finetune", *LIGHT, "--data", text_file, "--run-dir", plain, "--dry-run")
    assert "already complete, so nothing would be done" in ran.out
    assert "6 steps, adamw" in ran.out
    assert tree(plain) == before


def test_a_checkpoint_of_other_settings_is_refused_by_the_dry_run_too(run_recipe, plain, text_file, tmp_path) -> None:
    checkpoint = plain / "checkpoints/step-00000006"
    flags = (*LIGHT, "--data", text_file, "--run-dir", tmp_path / "more", "--seed", 9, "--resume", checkpoint)
    for more in ([], ["--dry-run"]):
        ran = run_recipe("finetune", *flags, *more, check=False)
        assert ran.code == 2
        assert "seed: 0 (existing) vs 9 (requested)" in ran.error


def test_shared_documents_are_said_loudly(run_recipe, text_file, tmp_path) -> None:
    documents = text_file.read_text(encoding="utf-8").split("\n\n")
    (tmp_path / "held-out.txt").write_text("\n\n".join([*documents[:3], "Some other text."]), encoding="utf-8")
    held_out = ("--validation-data", tmp_path / "held-out.txt")
    ran = run_recipe("finetune", *LIGHT, "--data", text_file, *held_out, "--run-dir", tmp_path / "run")
    assert "warning: 3 of the 4 documents of --validation-data" in ran.out
    (tmp_path / "held-out.txt").write_text("\n\n".join(documents[:3]), encoding="utf-8")
    ran = run_recipe("finetune", *LIGHT, "--data", text_file, *held_out, "--run-dir", tmp_path / "other", check=False)
    assert ran.code == 2
    assert "all of it is also in --data" in ran.error


@pytest.mark.slow
def test_the_second_of_two_runs_at_once_is_refused_and_the_first_is_whole(run_recipe, text_file, tmp_path) -> None:
    flags = [*LIGHT, "--steps", 40, "--checkpoint-every", 20, "--data", text_file, "--run-dir", tmp_path / "run"]
    first = subprocess.Popen([*FINETUNE, *map(str, flags)], cwd=ROOT, stdout=subprocess.DEVNULL)
    while not (tmp_path / "run/status.json").exists():
        assert first.poll() is None
        time.sleep(0.05)
    second = run_recipe("finetune", *flags, check=False)
    assert second.code == 2
    assert f"process {first.pid} on " in second.error
    assert first.wait() == 0
    assert [row["step"] for row in read_lines(tmp_path / "run/metrics.jsonl")] == list(range(1, 41))


@pytest.mark.slow
def test_a_terminal_without_utf_8_and_without_a_writable_home(text_file, tmp_path) -> None:
    (tmp_path / "a [b] é").mkdir()
    here = tmp_path / "a [b] é"
    Path(here / "tëxts.txt").write_bytes(text_file.read_bytes())
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "HOME": "/proc/nohome"}
    environment |= {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": str(ROOT)}
    flags = [*QUICK, "--data", "tëxts.txt", "--run-dir", "run", "--strategies", "greedy"]
    ran = subprocess.run([*FINETUNE, *flags], cwd=here, env=environment, capture_output=True, check=False)
    assert ran.returncode == 0, ran.stderr.decode()
    assert ran.stdout.isascii()
    assert b"difference in bits per byte: " in ran.stdout
    assert (here / "run/report.html").exists()
    assert yaml.safe_load((here / "run/config.yaml").read_text(encoding="utf-8"))["data"] == "tëxts.txt"
    # The settings are the same run in any locale.
    for own in (environment, environment | {"PYTHONUTF8": "1", "PYTHONIOENCODING": "utf-8"}):
        ran = subprocess.run(
            [*FINETUNE, "--config", "run/config.yaml"], cwd=here, env=own, capture_output=True, check=False
        )
        assert ran.returncode == 0, ran.stderr.decode()
        assert b"already complete" in ran.stdout
