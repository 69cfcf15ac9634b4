"""Work in a thread: one at a time, its result or error is returned, and the end of the process waits for it."""

import subprocess
import sys
import threading

import pytest

from textgen.background import BackgroundTask


def test_the_result_comes_when_it_is_waited_for():
    task, gate = BackgroundTask(), threading.Event()
    assert task.wait() is None
    task.start(lambda: gate.wait(30) and 7)
    assert (task.running, task.finished) == (True, False)
    gate.set()
    assert task.wait() == 7
    assert (task.running, task.finished) == (False, True)
    assert task.wait() is None


def test_an_error_is_raised_once():
    task = BackgroundTask()

    def fail() -> None:
        raise OSError("disk")

    task.start(fail)
    with pytest.raises(OSError, match="disk"):
        task.wait()
    task.start(lambda: 1)
    assert task.wait() == 1


@pytest.mark.parametrize("end", ["pass", "sys.exit(3)", "finish_background_work(10); os._exit(3)"])
def test_a_process_that_ends_finishes_its_work(end):
    program = (
        "import os, sys, time\n"
        "from textgen.background import BackgroundTask, finish_background_work\n"
        "BackgroundTask().start(lambda: (time.sleep(0.5), print('written', flush=True)))\n"
        f"{end}"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.returncode) == ("written\n", 0 if end == "pass" else 3)
