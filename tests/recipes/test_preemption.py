"""A run that gets a signal saves once, ends with 75, and goes on to the same bytes when the command is repeated."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from prefork import Strike
from running import QUICK, ROOT, WORDS, read_lines, tree

# Evaluations in training take seconds, and the file of each is long enough that a signal comes in the middle of one.
FLAGS = [*QUICK, "--skip-decoding", "--sample-every", "3", "--training-evaluation-tokens", "all"]


@pytest.fixture(scope="session")
def held_out(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("held-out") / "held-out.txt"
    lines = [" ".join(WORDS[(i * 5 + j * j) % len(WORDS)] for j in range(60)) for i in range(150)]
    path.write_text("\n\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="session")
def whole(run_recipe, text_file, held_out, tmp_path_factory) -> Path:
    """The run that nothing disturbs."""
    directory = tmp_path_factory.mktemp("whole") / "run"
    run_recipe("finetune", *FLAGS, "--data", text_file, "--validation-data", held_out, "--run-dir", directory)
    return directory


@pytest.fixture
def disturb(run_recipe, text_file, held_out, tmp_path) -> Callable[..., tuple[int, str]]:
    """Run the same in another directory, with a signal; returns the exit code and what was printed."""

    def run(strike: Strike | None, *flags: object, processes: int = 1) -> tuple[int, str]:
        flags = ("--data", text_file, "--validation-data", held_out, "--run-dir", tmp_path / "run", *flags)
        ended = run_recipe("finetune", *FLAGS, *flags, processes=processes, check=False, strike=strike)
        return ended.code, ended.out + ended.error

    return run


def status(directory: Path) -> dict[str, object]:
    return json.loads((directory / "status.json").read_text())


def checkpoints(directory: Path) -> list[str]:
    return sorted(path.name for path in (directory / "checkpoints").iterdir())


def same_results(one: Path, other: Path, *records: str) -> None:
    assert tree(one / "model") == tree(other / "model")
    for name in records or ("metrics.jsonl", "samples.jsonl"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


def test_a_signal_in_an_evaluation_saves_the_step_before_it_and_the_evaluation_is_done_again(disturb, whole, tmp_path):
    run_dir = tmp_path / "run"
    code, printed = disturb(Strike(signal.SIGTERM, file=str(run_dir / "metrics.jsonl"), lines=2, seconds=0.1))
    message = "stopped by SIGTERM after step 3, which is saved: run the same command again to go on"
    assert code == 75, printed
    assert printed.count("stopped by") == 1
    assert printed.endswith(message + "\n")
    assert "Traceback" not in printed
    assert status(run_dir).items() >= {"state": "preempted", "exit_code": 75, "step": 3, "message": message}.items()
    assert checkpoints(run_dir) == ["step-00000002", "step-00000003"]
    assert [row["step"] for row in read_lines(run_dir / "metrics.jsonl")] == [1, 2]

    code, printed = disturb(None)
    assert code == 0, printed
    assert "resuming from" in printed
    assert "after step 3" in printed
    same_results(run_dir, whole)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_before_the_first_step_ends_at_once(disturb, tmp_path, number):
    code, printed = disturb(Strike(number, file=str(tmp_path / "run/environment.json"), lines=1), "--steps", 500)
    assert code == 75, printed
    assert printed.endswith(f"stopped by {number.name}: run the same command again to go on\n")
    assert status(tmp_path / "run").items() >= {"state": "preempted", "exit_code": 75, "step": 0}.items()
    assert not (tmp_path / "run/checkpoints").exists()


def test_a_second_signal_ends_at_once_and_harms_nothing(disturb, whole, tmp_path):
    record = str(tmp_path / "run/metrics.jsonl")
    long = ("--sample-every", "1", "--max-new-tokens", "200")  # so that the first signal takes time to be obeyed
    code, printed = disturb(Strike(signal.SIGTERM, file=record, lines=3, again=0.02), *long)
    assert code in (75, 128 + signal.SIGTERM), printed
    assert "Traceback" not in printed
    shutil.rmtree(tmp_path / "run")
    code, _ = disturb(Strike(signal.SIGKILL, file=record, lines=4))
    assert code == -signal.SIGKILL
    assert disturb(None)[0] == 0
    same_results(tmp_path / "run", whole)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1, None])
def test_a_signal_to_any_process_stops_all_at_one_step(disturb, tmp_path, rank):
    run_dir = tmp_path / "run"
    strike = Strike(signal.SIGUSR1, rank=rank, file=str(run_dir / "metrics.jsonl"), lines=2, seconds=0.2)
    code, printed = disturb(strike, processes=2)
    assert code == 1, printed  # as torchrun's is
    assert printed.count("stopped by SIGUSR1 after step 3, which is saved") == 1
    assert "Traceback" not in printed
    assert status(run_dir).items() >= {"state": "preempted", "exit_code": 75, "step": 3}.items()
    assert disturb(None, processes=2)[0] == 0
    assert [row["step"] for row in read_lines(run_dir / "metrics.jsonl")] == [1, 2, 3, 4, 5, 6]


@pytest.mark.slow
@pytest.mark.parametrize("dead", [0, 1])
def test_the_death_of_a_process_ends_the_others_which_name_it(disturb, tmp_path, dead):
    run_dir = tmp_path / "run"
    strike = Strike(signal.SIGKILL, rank=dead, file=str(run_dir / "metrics.jsonl"), lines=2)
    code, printed = disturb(strike, processes=2)
    assert code == 1, printed
    named = rf"error: rank {dead} \(.*, process \d+\) ended without a word\. All processes end; run the same command"
    gone = r"error: the machine of rank 0 \(127.0.0.1:\d+\), through which the processes find each other, no longer"
    assert re.search(gone if dead == 0 else named, printed), printed
    assert "Traceback" not in printed
    assert status(run_dir).items() >= {"state": "failed", "exit_code": 1}.items()
    assert disturb(None, processes=1)[0] == 0  # also with fewer processes
    assert [row["step"] for row in read_lines(run_dir / "metrics.jsonl")] == [1, 2, 3, 4, 5, 6]


@pytest.mark.slow
def test_four_processes_resume_to_the_same_bytes(run_recipe, text_file, tmp_path):
    """Sums of four terms depend on their order, which must not depend on when the run was started."""
    flags = [*QUICK, "--skip-decoding", "--data", text_file, "--evaluate-every", 0, "--microbatch-size", 1]
    run_recipe("finetune", *flags, "--run-dir", tmp_path / "whole", processes=4)
    strike = Strike(signal.SIGTERM, file=str(tmp_path / "run/metrics.jsonl"), lines=2)
    run_recipe("finetune", *flags, "--run-dir", tmp_path / "run", processes=4, strike=strike, check=False)
    assert not (tmp_path / "run/model").exists()
    assert "after step" in run_recipe("finetune", *flags, "--run-dir", tmp_path / "run", processes=4).out
    same_results(tmp_path / "run", tmp_path / "whole", "metrics.jsonl")


def launch(command: list[str], run_dir: Path, *flags: object) -> subprocess.Popen[str]:
    """Start the recipe through a launcher, in a session of its own, and wait until it trains."""
    environment = os.environ | {"TEXTGEN_CACHE": str(run_dir.parent / "cache"), "OMP_NUM_THREADS": "1"}
    flags = ("--run-dir", run_dir, "--steps", 1000, "--skip-decoding", "--evaluate-every", 0, *flags)
    process = subprocess.Popen(
        [*command, str(ROOT / "recipes/finetune.py"), *QUICK, *map(str, flags)], cwd=ROOT, text=True,
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not (run_dir / "metrics.jsonl").exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process


ACCELERATE = [str(Path(sys.executable).with_name("accelerate")), "launch"]
ONE = [*ACCELERATE, "--num_processes", "1"]
TWO = [*ACCELERATE, "--config_file", str(ROOT / "launch/multi_cpu.yaml")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "number", "group"),
    [
        (ONE, "TERM", False),
        (ONE, "KILL", False),
        (ONE, "INT", True),  # Ctrl-C
        (TWO, "USR1", False),
        (TWO, "KILL", False),
        (TWO, "INT", True),
    ],
    ids=["one-TERM", "one-KILL", "one-INT-all", "two-USR1", "two-KILL", "two-INT-all"],
)
def test_no_process_survives_its_launcher_and_nothing_is_lost(tmp_path, command, number, group):
    process = launch(command, tmp_path / "run")
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= (1 if command is ONE else 2)
    sent = getattr(signal, f"SIG{number}")
    os.killpg(process.pid, sent) if group else process.send_signal(sent)
    _, alive = psutil.wait_procs(children, timeout=20)
    for survivor in alive:
        survivor.kill()
    printed = process.communicate()[0]
    assert not alive, printed
    assert printed.count("stopped by") == 1, printed
    ended = status(tmp_path / "run")
    assert (ended["state"], ended["exit_code"]) == ("preempted", 75)
    assert f"step-{ended['step']:08d}" in checkpoints(tmp_path / "run")


@pytest.mark.slow
def test_a_launcher_that_restarts_goes_on_by_itself(tmp_path):
    """One of two processes is killed; both are started anew, and the result is that of an undisturbed run."""
    flags = ("--steps", 20, "--checkpoint-every", 5)
    process = launch([*TWO, "--max_restarts", "1"], tmp_path / "run", *flags)
    children = psutil.Process(process.pid).children()
    children[1].kill()
    printed = process.communicate(timeout=120)[0]
    assert process.returncode == 0, printed
    process = launch(TWO, tmp_path / "whole", *flags)
    assert process.wait(timeout=120) == 0
    same_results(tmp_path / "run", tmp_path / "whole", "metrics.jsonl")
