"""A run on W&B with the real library: what an offline run holds, and what a server gets, also if it fails."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from wandb_server import Events, no_server, steps, stub, without_account

from textgen.files import json_line, write_bytes, write_json
from textgen.reporting.jsonl import read_rows
from textgen.reporting.results import RunFiles
from textgen.reporting.tracking.rows import logged_values, tracked_rows

pytestmark = pytest.mark.slow

# Each test runs its mirror in a separate program, because W&B keeps one service per process.
PROGRAM = """
import sys
import time
from pathlib import Path
import psutil
import wandb
from textgen.reporting.config import TrackingConfig
from textgen.reporting.jsonl import read_rows
from textgen.reporting.results import RunFiles
from textgen.reporting.tracking.rows import TrackedRun, tracked_rows
from textgen.reporting.tracking.tracker import Trackers, start_mirrors

mode, run_dir, timeout, action = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
began = time.monotonic()
files = RunFiles.read(run_dir)
config = TrackingConfig(
    wandb_mode=mode, wandb_project="p", wandb_timeout=timeout,
    wandb_tags="a, b,a", wandb_group="seeds", wandb_notes="why",
)
def start():
    tracked = TrackedRun(run_dir, files.config, files.environment, "abc")
    mirrors = start_mirrors(tracked, config, lambda line: print("ECHO", line, flush=True), init_timeout=3)
    return (mirrors or [Trackers()])[0]

def log(mirror):
    for row in tracked_rows(files.metrics, read_rows(run_dir / "timing.jsonl")):
        mirror.log(row)
    mirror.log_samples(files.samples())

mirror = start()
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
log(mirror)
if action == "stop twice":
    for again in (True, False):
        while not mirror.has_started:
            time.sleep(0.1)
        mirror._end_early()
        if again:
            mirror = start()
            log(mirror)
    sys.exit()
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
def run_dir(run_dir: Path, sample_rows) -> Path:
    (run_dir / "report.html").write_text("<h1>report</h1>")
    write_bytes(run_dir / "samples.jsonl", b"".join(map(json_line, sample_rows(0, 50))))
    times = [
        {"step": step, "seconds": 6.0, "tokens_per_second": 900.0 + step, "steps": 10, "peak_memory_bytes": 5 << 30}
        | {"evaluation_seconds": 3.0, "saving_seconds": 1.0}
        for step in range(10, 401, 10)
    ]
    write_bytes(run_dir / "timing.jsonl", b"".join(map(json_line, times)))
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


def operations(events: Events, name: str) -> list[dict[str, Any]]:
    return [event["variables"] for event in events if event.get("operation") == name]


def messages(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line.removeprefix("ECHO ") for line in done.stdout.splitlines() if line.startswith("ECHO ")]


def rows_of(logged: Callable[[str], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The rows of metrics in an offline run, without what W&B adds."""
    history = [record["item"] for record in logged("history")]
    return [{key: value for key, value in row.items() if key[0] != "_"} for row in history if "train/step" in row]


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
    files = RunFiles.read(run_dir)
    expected = [logged_values(row) for row in tracked_rows(files.metrics, read_rows(run_dir / "timing.jsonl"))]
    assert rows_of(logged) == [*expected, {"train/step": 401, "train/loss": 1.5}]
    assert expected[0]["system/seconds_per_step"] == 0.6
    assert [expected[0][f"system/{kind}_share"] for kind in ("evaluation", "saving")] == [0.3, 0.1]

    metrics = {metric.get("glob_name") or metric["name"]: metric for metric in logged("metric")}
    for section in ("train", "eval", "system"):
        assert metrics[f"{section}/*"]["step_metric"] == "train/step"
    assert "train/tokens" in metrics, "the other horizontal axis"
    summary = {key: value for record in logged("summary") for key, value in record["update"].items()}
    assert summary["before/bits_per_byte"] == 1.92
    after = files.perplexity["after"]
    assert summary["after/token_perplexity"] == after["token_perplexity"]
    ends = [summary[f"after/token_perplexity_{end}"] for end in ("low", "high")]
    assert ends == after["token_perplexity_interval"]
    for row in files.decoding["after"]:
        key = f"decoding/after/{row['strategy']}/diversity"
        assert [summary[key], summary[f"{key}_low"], summary[f"{key}_high"]] == [
            row["diversity"], *row["diversity_interval"]
        ]  # fmt: skip
    assert summary["uncontaminated/difference/bits_per_byte"] == -0.45
    assert summary["retained/after/bits_per_byte"] == 2.75
    assert summary["retained/difference/bits_per_byte"] == 0.25
    assert summary["contaminated_documents"] == 2
    shown = {key.split(".")[0] for key in summary}
    assert {"decoding", "continuations", "report", "samples/texts"} <= shown
    assert {"charts/frontier", "charts/perplexity", "charts/diversity", "charts/nll"} <= shown
    assert [alert["title"] for alert in logged("alert")] == ["Run finished"]
    [run] = logged("run")
    assert run["config"]["update"]["training"]["learning_rate"] == 3e-4
    assert run["config"]["update"]["model"]["model"] == "tiny-gpt2"
    assert [run["job_type"], run["run_group"], run["notes"], run["tags"]] == ["finetune", "seeds", "why", ["a", "b"]]
    assert [ending["exit_code"] for ending in logged("exit")] == [0]

    artifacts = {artifact["name"]: artifact for artifact in logged("artifact")}
    assert {name: artifact["type"] for name, artifact in artifacts.items() if not name.startswith("run-")} == {
        "data-plays": "dataset", "base-tiny-gpt2": "model", "model-abc": "model", "evaluation-abc": "evaluation"
    }  # fmt: skip
    used = {name for name, artifact in artifacts.items() if artifact.get("use_after_commit")}
    assert used == {"data-plays", "base-tiny-gpt2"}
    assert set(artifacts["model-abc"]["aliases"]) == {"latest", "step-400"}


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
    committed = operations(events, "CommitArtifact")
    created = [variables["input"] for variables in operations(events, "CreateArtifact")]
    assert len(committed) == len(created)
    names = {artifact["artifactCollectionName"] for artifact in created}
    assert {"run-abc-decoding", "run-abc-continuations", "model-abc", "data-plays", "base-tiny-gpt2"} <= names
    used = [variables["input"]["artifactID"].split("/")[0] for variables in operations(events, "UseArtifact")]
    assert sorted(used) == ["base-tiny-gpt2", "data-plays"]
    assert [alert["title"] for alert in operations(events, "NotifyScriptableRunAlert")] == ["Run finished"]
    puts = " ".join(event["put"] for event in events if "put" in event)
    for part in ("decoding", "continuations", "report", "wandb-summary.json"):
        assert part in puts


def test_rows_that_a_server_refuses_are_noticed(run_dir):
    """W&B drops them, and says so in a log of its own only."""
    with stub("--fail", "file_stream", "--status", "403") as (environment, events):
        done = mirror(run_dir, "online", **environment)
    assert steps(events) == []
    [line] = messages(done)
    assert line.startswith("W&B has no row after step 0, although it was sent them up to step 401. ")


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


def test_a_resumed_offline_run_is_one_run_to_sync(run_dir):
    """However often it was resumed and synced, a directory is left to sync, and the server gets every row once."""
    rows = run_dir / "metrics.jsonl"
    every = rows.read_bytes()
    rows.write_bytes(b"".join(every.splitlines(keepends=True)[:20]))
    write_json(run_dir / "status.json", {"state": "failed", "exit_code": 3, "message": "the loss is not finite"})
    mirror(run_dir, "offline", action="stop twice")
    [first] = (run_dir / "wandb").glob("offline-run-*")
    with stub() as (environment, events):
        sync(first, environment, run_dir)
        assert steps(events) == [*range(10, 201, 10)]
        [alert] = operations(events, "NotifyScriptableRunAlert")
        assert (alert["title"], alert["severity"]) == ("Training diverged", "ERROR")
        assert alert["text"] == "run: the loss is not finite"
        rows.write_bytes(every)
        mirror(run_dir, "offline")
        [second] = set((run_dir / "wandb").glob("offline-run-*")) - {first}
        sync(second.parent, environment, run_dir)
    assert steps(events) == [*range(10, 401, 10), 401]
    assert steps(events, "samples/step") == [50]
    sent = [event for event in events if "history" in event]
    lines = [event["offset"] + place for event in sent for place in range(len(event["history"]))]
    assert lines == [*range(len(lines))], "no line replaces another"
    numbers = [row["_step"] for event in sent for row in event["history"]]
    assert numbers == sorted(set(numbers))
    assert {event["run"] for event in sent} == {"abc"}


def sync(folder: Path, environment: dict[str, str], run_dir: Path) -> None:
    home = run_dir.parent / "home"
    command = [sys.executable, "-m", "wandb", "sync", str(folder)]
    done = subprocess.run(
        command, cwd=home, env=without_account(home) | environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
