"""Uploading the record of a run after the run: everything, once, under the run's own id."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from wandb_server import ROOT, Events, steps, stub, without_account

from textgen.errors import UserError
from textgen.files import json_line, write_bytes, write_json
from textgen.reporting.tracking.replay import read_run, tracking_id
from textgen.run.directory import RunDirectory

STEPS = list(range(10, 401, 10))


def replay(run_dir: Path, *flags: str, **environment: str) -> subprocess.CompletedProcess[str]:
    home = run_dir.parent / "home"
    home.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "textgen", "replay", str(run_dir), *flags],
        cwd=ROOT,
        env=without_account(home) | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "Traceback" not in done.stderr
    return done


def operations(events: Events, name: str) -> list[dict[str, Any]]:
    return [event["variables"] for event in events if event.get("operation") == name]


@pytest.fixture
def recorded(run_dir: Path, sample_rows) -> Path:
    """A finished run with samples and a report, whose tracking was switched off."""
    write_bytes(run_dir / "samples.jsonl", b"".join(map(json_line, sample_rows(0, 50))))
    (run_dir / "report.html").write_text("<h1>report</h1>")
    write_json(run_dir / "status.json", {"state": "done"})
    environment = json.loads((run_dir / "environment.json").read_text())
    write_json(run_dir / "environment.json", environment | {"tracking_id": "0123456789ab"})
    return run_dir


@pytest.mark.slow
def test_everything_is_uploaded_and_a_second_time_nothing_twice(recorded):
    with stub() as (environment, events):
        first = replay(recorded, **environment)
        assert (first.returncode, first.stderr) == (0, "")
        assert first.stdout.startswith(f"W&B has all 40 rows and the results of {recorded}, in the project ")
        sent = list(events)
        second = replay(recorded, **environment)
        assert second.returncode == 0
    again = events[len(sent) :]
    assert steps(sent) == STEPS
    assert steps(sent, "samples/step") == [50]
    tables = [key for event in sent for row in event.get("history", []) for key in row]
    assert {"decoding", "continuations", "report", "charts/frontier"} <= set(tables)
    rows = [row for event in again for row in event.get("history", [])]
    assert rows == [], "the second time"
    assert {upsert["name"] for upsert in operations(events, "UpsertBucket")} == {"0123456789ab"}
    artifacts = [created["input"]["artifactCollectionName"] for created in operations(sent, "CreateArtifact")]
    assert "model-0123456789ab" in artifacts


@pytest.mark.slow
def test_a_run_that_is_there_in_part_gets_what_it_lacks(recorded):
    with stub("--logged", "200") as (environment, events):
        assert replay(recorded, **environment).returncode == 0
    assert steps(events) == [step for step in STEPS if step > 200]


@pytest.mark.slow
def test_a_server_that_stops_answering_is_a_message_within_the_time(recorded):
    with stub("--fail", "file_stream") as (environment, _):
        done = replay(recorded, "--wandb-timeout", "4", **environment)
    assert done.returncode == 2
    assert f"error: {recorded}: not uploaded: W&B did not finish within 4 s" in done.stderr


@pytest.mark.slow
def test_rows_that_a_server_refuses_are_noticed(recorded):
    with stub("--fail", "file_stream", "--status", "403") as (environment, _):
        done = replay(recorded, **environment)
    assert done.returncode == 2
    assert f"error: {recorded}: not uploaded: W&B has no row after step 0, although" in done.stderr


@pytest.mark.slow
def test_offline_writes_a_run_to_sync(recorded):
    done = replay(recorded, "--wandb-mode", "offline", "--wandb-project", "other")
    assert done.returncode == 0
    [line] = done.stdout.splitlines()
    folder = Path(line.split("`wandb sync ")[1].rstrip("`"))
    assert folder.name.endswith("-0123456789ab")
    assert list(folder.glob("*.wandb"))


def test_the_id_is_the_one_the_run_had_wherever_its_directory_is_now(recorded):
    run = read_run(recorded)
    assert tracking_id(run) == "0123456789ab"
    for damaged in (None, 5, "../../x"):
        write_json(recorded / "environment.json", {"tracking_id": damaged})
        again = RunDirectory(run.config, path=str(recorded), name="x")
        assert tracking_id(read_run(recorded)) == again.tracking_id()


def test_samples_without_a_column_are_refused_by_line(recorded):
    with (recorded / "samples.jsonl").open("a") as file:
        file.write('{"step": 100}\n')
    with pytest.raises(UserError, match=r"samples.jsonl, line \d+: has no 'prompt_id'"):
        read_run(recorded)
