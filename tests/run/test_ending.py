"""How one of two processes ends, and how the other does then: what they print, their exit code, and the status.

A small recipe runs in two real processes. Signals and deaths of whole runs: tests/recipes/test_preemption.py.
"""

import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from textgen.errors import UserError
from textgen.run.directory import RunDirectory
from textgen.run.main import run_recipe


@dataclass(frozen=True)
class Settings:
    config: str | None = None
    run_dir: str | None = None
    what: str = ""
    rank: int = 0


@dataclass(frozen=True)
class Recipe:
    settings: Settings

    def directory(self) -> RunDirectory:
        return RunDirectory({"run_dir": None}, path=self.settings.run_dir, name="recipe")


def recipe(config: Recipe, directory: RunDirectory) -> None:
    """Two processes, of which one fails in some way while the other waits for it or sleeps."""
    import torch

    from textgen.training.distributed.processes import start_process

    if config.settings.what == "early" and os.environ["RANK"] == str(config.settings.rank):
        assert directory.is_complete()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
    accelerator = start_process(1)
    directory.created = True
    if accelerator.is_main_process:
        directory.create()
    accelerator.wait_for_everyone()
    what, mine = config.settings.what, accelerator.process_index == config.settings.rank
    if what == "bug" and mine:
        raise ZeroDivisionError("by zero")
    if what == "error" and mine:
        raise UserError("--data x: not found on this machine.")
    if what == "all":
        raise UserError("--data x: not found anywhere.")
    if what == "sleep":
        if mine:
            raise ZeroDivisionError("by zero")
        time.sleep(60)
    torch.distributed.all_reduce(torch.ones(1))
    accelerator.wait_for_everyone()
    print(f"process {accelerator.process_index} is done")
    if what == "finish" and accelerator.is_main_process:
        directory.finish({}, step=0)


@pytest.fixture
def end(python, tmp_path):
    """Run the recipe; returns its exit code, what it printed, and the status."""

    def run(what: str, rank: int = 0) -> tuple[int, str, dict[str, Any]]:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        flags = ["--run-dir", tmp_path / "run", "--what", what, "--rank", rank]
        start = time.monotonic()
        ended = python.run([__file__, *flags], processes=2, cwd=tmp_path, env=environment, timeout=90)
        assert time.monotonic() - start < 60, "the other process waited for the one that failed"
        status = tmp_path / "run/status.json"
        return ended.code, ended.out + ended.error, json.loads(status.read_text()) if status.exists() else {}

    return run


def test_both_end_well(end):
    code, printed, _ = end("")
    assert code == 0, printed
    assert "process 0 is done" in printed
    assert "process 1 is done" in printed


@pytest.mark.parametrize("what", ["bug", "sleep"])
@pytest.mark.parametrize("rank", [0, 1])
def test_the_traceback_of_a_bug_is_printed_once_and_the_other_process_ends(end, what, rank):
    code, printed, status = end(what, rank)
    assert code == 1
    assert printed.count("Traceback (most recent call last)") == 1, printed
    assert printed.count("ZeroDivisionError: by zero") == 1, printed
    assert (status["state"], status["exit_code"]) == ("failed", 1)
    assert status["message"] == f"rank {rank}: ZeroDivisionError: by zero"


def test_an_error_of_one_process_is_reported_by_the_main_one_with_its_place(end):
    code, printed, status = end("error", 1)
    assert code == 1, printed  # as torchrun's is
    assert printed.count("error: on rank 1: --data x: not found on this machine.") == 1, printed
    assert "Traceback" not in printed
    assert (status["state"], status["exit_code"]) == ("failed", 2)


def test_an_error_of_the_main_process_alone_ends_the_other(end):
    _, printed, status = end("error", 0)
    assert printed.count("error: --data x: not found on this machine.") == 1, printed
    assert "Traceback" not in printed
    assert (status["state"], status["exit_code"]) == ("failed", 2)


def test_an_error_of_both_is_reported_once(end):
    _, printed, status = end("all")
    assert printed.count("error: --data x: not found anywhere.") == 1, printed
    assert printed.count("error:") == 1
    assert "Traceback" not in printed
    assert status["exit_code"] == 2


def test_a_signal_before_the_processes_met_ends_all_of_them_also_if_nothing_is_left_to_do(end):
    assert end("finish")[2]["state"] == "done"
    code, printed, status = end("early", 0)
    assert code != 0
    assert printed.count("stopped by SIGTERM") == 1, printed
    assert status["state"] == "done"


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    run_recipe(Recipe, recipe, description="A recipe that fails.")
