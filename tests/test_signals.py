"""A process ends when it is told to, after what it must not lose; nothing it started inherits that."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from textgen.errors import UserError
from textgen.signals import time_limit

ROOT = Path(__file__).parents[1]
LISTEN = """
import os, signal, sys, time
from textgen import signals

def end(why):
    print("ended by", why, flush=True)
    os._exit(75)

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored if the tests run under nohup
signals.listen(end)
"""
WAIT = "print('ready', flush=True)\nwhile True: time.sleep(0.05)\n"
STEPS = """
for step in signals.deferred(range(40)):
    if step == 0:
        print("ready", flush=True)
    time.sleep(0.05)
    if signals.requested():
        print("step", signals.reason(), flush=True)
        break
print("after", flush=True)
"""
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a program that listens, and wait until it is ready."""
    started: list[subprocess.Popen[str]] = []

    def run(program: str, **environment: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", LISTEN + program]
        process = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | environment, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_ends_a_process_at_once_also_while_its_main_thread_waits(start, number):
    process = start("import threading\nprint('ready', flush=True)\nthreading.Event().wait()")
    process.send_signal(number)
    assert process.communicate(timeout=10)[0] == f"ended by {number.name}\n"
    assert process.returncode == 75


def test_steps_end_before_the_process_does(start):
    process = start(STEPS)
    process.send_signal(signal.SIGUSR1)
    assert process.communicate(timeout=10)[0] == "step SIGUSR1\nafter\n"
    assert process.returncode == 0


def test_a_signal_that_no_step_has_seen_ends_the_process_after_the_last(start):
    process = start("for _ in signals.deferred([1]): print('ready', flush=True), time.sleep(0.5)\nprint('lost')")
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=10)[0] == "ended by SIGTERM\n"


def test_after_the_steps_a_signal_ends_the_process_at_once_again(start):
    process = start("for _ in signals.deferred([1]): pass\n" + WAIT)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=10)[0] == "ended by SIGTERM\n"


def test_a_second_signal_ends_the_process_within_a_step(start):
    process = start("for _ in signals.deferred([1]): print('ready', flush=True), time.sleep(30)")
    process.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=5) == 128 + signal.SIGINT


def test_what_a_launcher_passes_on_is_no_second_signal(start):
    process = start(STEPS, ACCELERATE_MIXED_PRECISION="no")
    process.send_signal(signal.SIGINT)
    time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=10)[0] == "step SIGINT\nafter\n"


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells a process that its parent ended")
@pytest.mark.parametrize("launched", [True, False])
def test_the_death_of_a_launcher_ends_its_process_and_that_of_a_shell_does_not(tmp_path, launched):
    out = tmp_path / "out.txt"
    command = [sys.executable, "-c", LISTEN + WAIT]
    environment = dict(os.environ) | ({"ACCELERATE_MIXED_PRECISION": "no"} if launched else {})
    launcher = f"import subprocess, sys; subprocess.Popen({command!r}, stdout=open({str(out)!r}, 'w')).wait()"
    parent = subprocess.Popen([sys.executable, "-c", launcher], cwd=ROOT, env=environment, start_new_session=True)
    try:
        _wait(lambda: out.exists() and out.read_text() == "ready\n")
        parent.kill()
        parent.wait()
        if launched:
            _wait(lambda: out.read_text() == "ready\nended by the end of its launcher\n")
        else:
            time.sleep(0.5)
            assert out.read_text() == "ready\n"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(parent.pid, signal.SIGKILL)


def test_a_hangup_stays_ignored_as_under_nohup():
    program = LISTEN.replace("signals.listen", "signal.signal(signal.SIGHUP, signal.SIG_IGN)\nsignals.listen") + WAIT
    ignoring = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert ignoring.stdout is not None
    assert ignoring.stdout.readline() == "ready\n"
    ignoring.send_signal(signal.SIGHUP)
    time.sleep(0.2)
    assert ignoring.poll() is None
    ignoring.terminate()
    assert ignoring.communicate(timeout=10)[0] == "ended by SIGTERM\n"


def test_a_process_that_forks_from_it_is_ended_by_its_own_signals_alone(start):
    process = start(
        "child = os.fork()\n"
        "if not child:\n    time.sleep(30)\n"
        "print('ready', flush=True)\n"
        "time.sleep(0.3)\n"
        "os.kill(child, signal.SIGTERM)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), signals.requested(), flush=True)\n"
    )
    assert process.communicate(timeout=10)[0] == "-15 False\n"
    assert process.returncode == 0


def _wait(until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_what_takes_too_long_is_an_error_and_the_limit_ends_with_it():
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(UserError, match="too slow"), time_limit(0.05, "too slow"):
        time.sleep(60)
    with time_limit(0.05, "too slow"):
        pass
    time.sleep(0.1)
    assert signal.getsignal(signal.SIGALRM) is before
