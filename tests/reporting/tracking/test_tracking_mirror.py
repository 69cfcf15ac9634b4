"""A tracker never stops, slows or changes a run: what holds for every library."""

import subprocess
import sys
import threading
from typing import Any

import pytest

from textgen.files import write_json
from textgen.reporting.tracking.mirror import Mirror


class Session:
    """A run of a library that remembers what it gets."""

    def __init__(self, logged_step: int = -1, sampled_step: int = -1, problem: str | None = None) -> None:
        self.logged_step, self.sampled_step, self.problem = logged_step, sampled_step, problem
        self.rows: list[Any] = []
        self.samples: list[Any] = []
        self.results: list[Any] = []
        self.ends: list[Any] = []

    def log(self, row):
        self.rows.append(row)

    def log_samples(self, rows):
        self.samples += rows

    def log_results(self, files):
        self.results.append(files)

    def end(self, status):
        self.ends.append(status["state"])
        return self.problem


class Broken(Session):
    """One whose every row fails."""

    def log(self, row):
        super().log(row)
        raise OSError("disk full\nmore")


@pytest.fixture
def lines() -> list[str]:
    return []


def test_everything_arrives_in_order_and_then_the_run_ends(run_dir, lines, sample_rows):
    session = Session()
    mirror = Mirror("X", lambda: session, run_dir, lines.append)
    mirror.log({"step": 1, "train/loss": 2.0})
    mirror.log_samples(sample_rows(0))
    mirror.finish(run_dir)
    assert session.rows == [{"step": 1, "train/loss": 2.0}]
    assert session.samples == sample_rows(0)
    assert [files.path for files in session.results] == [run_dir]
    assert session.ends == ["done"]
    assert (lines, mirror.problem) == ([], None)


def test_no_row_and_no_sample_is_sent_twice(run_dir, lines, sample_rows):
    session = Session(logged_step=1, sampled_step=0)
    mirror = Mirror("X", lambda: session, run_dir, lines.append)
    for step in (1, 2, 2, 3, 1):
        mirror.log({"step": step})
    for rows in (sample_rows(0), sample_rows(0, 50), sample_rows(50), []):
        mirror.log_samples(rows)
    mirror.finish(run_dir)
    assert [row["step"] for row in session.rows] == [2, 3]
    assert [row["step"] for row in session.samples] == [50] * 4


def test_an_error_is_reported_once_and_disables_the_tracker(run_dir, lines):
    broken = Broken()
    mirror = Mirror("X", lambda: broken, run_dir, lines.append, replay="textgen replay RUN --track x")
    for step in range(5):
        mirror.log({"step": step})
    mirror.finish(run_dir)
    assert len(broken.rows) == 1
    assert broken.ends == ["failed"], "the library gets what was sent before"
    assert mirror.problem == "X disabled after an error: disk full"
    assert lines == [f"{mirror.problem}. {run_dir} has everything; `textgen replay RUN --track x` uploads it."]


def test_a_library_that_does_not_start_is_a_message(run_dir, lines):
    def start():
        raise ImportError("no module named x")

    mirror = Mirror("X", start, run_dir, lines.append)
    mirror.log({"step": 1})
    mirror.finish(run_dir)
    assert lines == [
        f"X disabled for this run: no module named x. {run_dir} has everything; `textgen replay {run_dir}` uploads it."
    ]


def test_what_a_library_turned_out_not_to_have_is_a_problem(run_dir, lines):
    mirror = Mirror("X", lambda: Session(problem="X has 3 of 4 rows"), run_dir, lines.append)
    mirror.finish(run_dir)
    assert mirror.problem == "X has 3 of 4 rows"
    assert len(lines) == 1


def test_rows_wait_for_a_run_that_starts_slowly(run_dir, lines):
    session, ready = Session(), threading.Event()
    mirror = Mirror("X", lambda: (ready.wait(10), session)[1], run_dir, lines.append)
    mirror.log({"step": 1})
    assert session.rows == []
    assert not mirror.has_started
    ready.set()
    mirror.finish(run_dir)
    assert session.rows == [{"step": 1}]


def test_waiting_for_a_library_that_hangs_has_a_limit(run_dir, lines):
    hanging, stopped = threading.Event(), []

    class Hanging(Session):
        def end(self, status):
            hanging.wait(30)

    mirror = Mirror("X", Hanging, run_dir, lines.append, timeout=0.2, stop=lambda: stopped.append(True))
    mirror.finish(run_dir)
    hanging.set()
    assert mirror.problem == "X did not finish within 0.2 s; continuing without it"
    assert stopped == [True]


def test_no_run_is_no_problem(run_dir, lines):
    mirror = Mirror("X", lambda: None, run_dir, lines.append)
    mirror.log({"step": 1})
    mirror.finish(run_dir)
    assert (lines, mirror.problem) == ([], None)


# A program that ends before its run is finished, in each of the ways that a recipe ends.
PROGRAM = """
import os, sys, time
from pathlib import Path
from textgen.background import finish_background_work
from textgen.reporting.tracking.mirror import Mirror

class Session:
    logged_step = sampled_step = -1
    def log(self, row): pass
    def end(self, status): print("ENDED", status["state"], status["exit_code"], flush=True)

mirror = Mirror("X", Session, Path(sys.argv[1]), print)
while not mirror.has_started:
    time.sleep(0.01)
if sys.argv[2] == "at once":
    finish_background_work(5)
    os._exit(3)
sys.exit(3)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "state", "code"), [("at once", "failed", 3), ("by the interpreter", "preempted", 75), ("at once", None, 1)]
)
def test_a_program_that_ends_early_tells_the_tracker_how(run_dir, how, state, code):
    (run_dir / "status.json").unlink()
    if state:
        write_json(run_dir / "status.json", {"state": state, "exit_code": code, "message": "why"})
    command = [sys.executable, "-c", PROGRAM, str(run_dir), how]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (3, "")
    assert done.stdout.split() == ["ENDED", state or "failed", str(code)]
