import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from wandb_server import no_server, steps, stub, without_account

from textgen.reporting.results import RunFiles
from textgen.reporting.tracking.wandb_mirror import WandbMirror

pytestmark = pytest.mark.slow

# Each test runs its mirror in a separate program, because W&B keeps one service per process.
PROGRAM = """
import sys
import time
from pathlib import Path
import psutil
import wandb
from textgen.reporting.jsonl import StepRecord
from textgen.reporting.tracking.wandb_mirror import WandbMirror

mode, run_dir, timeout, action = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
began = time.monotonic()
mirror = WandbMirror.start(
    run_dir, {"learning_rate": 3e-4}, run_id="abc", project="p", mode=mode, name="n",
    echo=lambda line: print("ECHO", line, flush=True), init_timeout=3, timeout=timeout,
)
print("STARTED", time.monotonic() - began, flush=True)
if action == "kill the service":
    while not (services := [p for p in psutil.Process().children() if "wandb" in " ".join(p.cmdline())]):
        time.sleep(0.1)
    time.sleep(1)
    services[0].kill()
if action == "exit while starting":
    while not psutil.Process().children():
        time.sleep(0.1)
    time.sleep(0.5)
    print("ENDING", time.time(), flush=True)
    sys.exit()
for row in StepRecord(run_dir / "metrics.jsonl").read():
    mirror.log(row)
mirror.log({"step": 401, "train/loss": 1.5})
mirror.log({"step": 401, "train/loss": 9.9})
while action == "exit early" and not mirror.has_started:
    time.sleep(0.1)
print("LOGGED", time.monotonic() - began, flush=True)
print("ENDING", time.time(), flush=True)
if action != "exit early":
    mirror.finish(run_dir)
"""


@pytest.fixture
def run_dir(run_dir: Path) -> Path:
    (run_dir / "report.html").write_text("<h1>report</h1>")
    return run_dir


def mirror(
    run_dir: Path, mode: str, timeout: float = 60, action: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the program in an empty directory, without a W&B account unless one is given; it must leave nothing there."""
    home = run_dir.parent / "home"
    work = run_dir.parent / "work"
    for directory in (home, work):
        directory.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, mode, str(run_dir), str(timeout), action],
        cwd=work,
        env=without_account(home) | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert list(work.iterdir()) == []
    return done


def ending(done: subprocess.CompletedProcess[str]) -> float:
    """Seconds that the program took to end, from its last row: its start may take a minute on a busy machine."""
    [began] = [float(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("ENDING")]
    return time.time() - began


def messages(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line.removeprefix("ECHO ") for line in done.stdout.splitlines() if line.startswith("ECHO ")]


def records(run_dir: Path) -> Callable[[str], list[dict[str, Any]]]:
    """The records of the latest offline run by type, as read by W&B."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(run_dir / "wandb" / "latest-run")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | {"NO_COLOR": "1"})
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return lambda kind: [row[kind] for row in rows if row["type"] == kind]


def test_an_offline_run_holds_every_row_and_every_result(run_dir, balance_dir):
    done = mirror(run_dir, "auto")
    [line] = messages(done)
    folder = Path(line.split("`wandb sync ")[1].rstrip("`"))
    assert folder.parent == run_dir / "wandb"
    assert f"`wandb leet {folder}`" in line
    assert list(folder.glob("*.wandb"))

    logged = records(run_dir)
    history = [record["item"] for record in logged("history")]
    rows = [{key: value for key, value in row.items() if key[0] != "_"} for row in history if "train/step" in row]
    recorded = RunFiles.read(run_dir).metrics
    expected = [{("train/step" if key == "step" else key): value for key, value in row.items()} for row in recorded]
    assert rows == [*expected, {"train/step": 401, "train/loss": 1.5}]

    metrics = {metric.get("glob_name") or metric["name"]: metric for metric in logged("metric")}
    assert metrics["eval/*"]["step_metric"] == metrics["train/*"]["step_metric"] == "train/step"
    summary = {key: value for record in logged("summary") for key, value in record["update"].items()}
    assert summary["before/bits_per_byte"] == 1.92
    assert summary["after/token_perplexity"] == RunFiles.read(run_dir).perplexity["after"]["token_perplexity"]
    assert summary["uncontaminated/difference/bits_per_byte"] == -0.45
    assert summary["retained/after/bits_per_byte"] == 2.75
    assert summary["retained/difference/bits_per_byte"] == 0.25
    assert summary["contaminated_documents"] == 2
    assert {"decoding", "continuations", "report"} <= {key.split(".")[0] for key in summary}
    assert [artifact["type"] for artifact in logged("artifact")].count("model") == 1
    [run] = logged("run")
    assert run["config"]["update"]["learning_rate"] == 3e-4
    assert [ending["exit_code"] for ending in logged("exit")] == [0]


def test_nothing_that_may_contain_a_secret_is_recorded(run_dir):
    mirror(run_dir, "offline", WANDB_NOTES="fine", SECRET_TOKEN="hunter2", WANDB_API_KEY="k" * 40)
    [folder] = (run_dir / "wandb").glob("offline-run-*")
    files = {path.name for path in folder.rglob("*") if path.is_file()}
    assert not files & {"wandb-metadata.json", "requirements.txt", "output.log", "diff.patch"}
    everything = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert b"hunter2" not in everything
    assert b"k" * 40 not in everything


def test_an_online_run_sends_rows_results_and_model(run_dir):
    with stub() as (environment, events):
        done = mirror(run_dir, "auto", **environment)
    assert messages(done) == []
    assert steps(events) == [*range(10, 401, 10), 401]
    committed = [event for event in events if event.get("operation") == "CommitArtifact"]
    created = [event["variables"]["input"] for event in events if event.get("operation") == "CreateArtifact"]
    assert len(committed) == len(created)
    assert {artifact["artifactCollectionName"] for artifact in created} == {
        "run-abc-decoding", "run-abc-continuations", "model-abc"
    }  # fmt: skip
    puts = " ".join(event["put"] for event in events if "put" in event)
    for part in ("decoding", "continuations", "report", "wandb-summary.json"):
        assert part in puts


def test_a_resumed_online_run_sends_only_what_the_server_lacks(run_dir):
    with stub("--logged", "200") as (environment, events):
        mirror(run_dir, "online", **environment)
    assert steps(events) == [*range(210, 401, 10), 401]


# What a server does when a run sends its rows, as options of the stub.
IN_MID_RUN = {
    "hangs": ["--hang", "file_stream"],
    "answers 500": ["--fail", "file_stream"],
    "dies": ["--die-after", "5"],
}


@pytest.mark.parametrize(
    "fault", [pytest.param(name, marks=[] if name == "dies" else pytest.mark.exhaustive) for name in IN_MID_RUN]
)
def test_waiting_for_a_server_that_fails_in_mid_run_has_a_limit(run_dir, fault):
    with stub(*IN_MID_RUN[fault]) as (environment, events):
        done = mirror(run_dir, "online", timeout=4, **environment)
        assert ending(done) < 60
    assert any({"hanging", "failed", "history"} & event.keys() for event in events)
    [line] = messages(done)
    assert line.startswith("W&B did not finish within 4 s; continuing without it.")
    assert f"`textgen replay {run_dir}`" in line


def test_a_program_that_exits_early_does_not_hang_with_its_server(run_dir):
    with stub("--hang", "file_stream") as (environment, _):
        done = mirror(run_dir, "online", action="exit early", **environment)
        assert ending(done) < 60
    assert any("did not finish within 10 s" in line for line in messages(done))


def test_a_program_that_exits_while_its_run_starts_does_not_hang(run_dir):
    with stub("--hang", "") as (environment, _):
        done = mirror(run_dir, "online", action="exit while starting", **environment)
        assert ending(done) < 60


def test_a_service_that_is_killed_is_reported_and_waited_for_no_longer(run_dir):
    with stub() as (environment, _):
        done = mirror(run_dir, "online", timeout=20, action="kill the service", **environment)
        assert ending(done) < 60
    assert any(f"`textgen replay {run_dir}`" in line for line in messages(done))


@pytest.mark.parametrize("kind", ["refuses", "hangs", "answers 500"])
def test_a_server_that_does_not_answer_makes_the_run_offline_and_delays_nothing(run_dir, kind):
    servers = {"refuses": no_server(), "hangs": stub("--hang", ""), "answers 500": stub("--fail", "")}
    with servers[kind] as (environment, events):
        done = mirror(run_dir, "online", **environment)
    assert bool(events) == (kind != "refuses")
    seconds = [float(line.split()[1]) for line in done.stdout.splitlines() if line.startswith(("STARTED", "LOGGED"))]
    assert len(seconds) == 2
    assert max(seconds) < 2, "the server has 3 s"
    first, second = messages(done)
    assert first.startswith("W&B: could not start an online run, tracking offline: ")
    assert "`wandb sync " in second
    assert len([record for record in records(run_dir)("history") if "train/step" in record["item"]]) == 41


@pytest.mark.parametrize(
    ("mode", "environment", "word"),
    [
        ("online", {"WANDB_MODE": "offline"}, "no API key found"),
        ("auto", {"WANDB_API_KEY": "short"}, "WANDB_API_KEY invalid"),
    ],
)
def test_without_a_working_key_the_run_is_offline_without_a_prompt(run_dir, mode, environment, word):
    first, second = messages(mirror(run_dir, mode, **environment))
    assert word in first
    assert "W&B offline run" in second


@pytest.mark.parametrize(("mode", "environment"), [("disabled", {}), ("auto", {"WANDB_MODE": "disabled"})])
def test_disabled_does_nothing(run_dir, mode, environment):
    done = mirror(run_dir, mode, **environment)
    assert messages(done) == []
    assert not (run_dir / "wandb").exists()


class Broken:
    """A W&B run whose every log fails."""

    offline, resumed, sync_dir = True, False, "wandb/run"

    class settings:  # noqa: N801
        sync_dir = "wandb/run"

    def __init__(self) -> None:
        self.calls = 0
        self.ends: list[int] = []

    def finish(self, exit_code: int) -> None:
        self.ends.append(exit_code)

    def log(self, values: dict[str, Any]) -> None:
        self.calls += 1
        raise OSError("disk full\nmore")


def test_an_error_is_reported_once_and_disables_the_mirror(run_dir):
    lines: list[str] = []
    broken = Broken()
    mirror = WandbMirror(lambda: broken, run_dir, lines.append, timeout=10)
    for step in range(5):
        mirror.log({"step": step})
    mirror.finish(run_dir)
    assert broken.calls == 1
    assert broken.ends == [1], "W&B gets what was sent before"
    assert mirror.problem == "W&B disabled after an error: disk full"
    assert lines == [f"{mirror.problem}. {run_dir} has everything; `textgen replay {run_dir}` uploads it."]


def test_rows_wait_for_a_run_that_starts_slowly(run_dir):
    class Run(Broken):
        def __init__(self) -> None:
            self.rows: list[dict[str, Any]] = []
            self.log, self.finish, self.summary = self.rows.append, lambda exit_code: None, {}

    run, ready = Run(), threading.Event()
    mirror = WandbMirror(lambda: (ready.wait(10), run)[1], run_dir, print)
    mirror.log({"step": 1, "train/loss": 2.0})
    assert run.rows == []
    ready.set()
    mirror._end(0, 10)
    assert run.rows == [{"train/step": 1, "train/loss": 2.0}]


def test_a_broken_installation_is_a_message(run_dir, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    lines: list[str] = []
    mirror = WandbMirror.start(run_dir, {}, run_id="a", project="p", mode="offline", name="n", echo=lines.append)
    mirror.log({"step": 1})
    mirror.finish(run_dir)
    assert len(lines) == 1
    assert lines[0].startswith("W&B disabled for this run: ")
    assert f"`textgen replay {run_dir}`" in lines[0]
