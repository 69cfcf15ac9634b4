"""Runs of Trackio that Trackio itself reads back, each in a process, since it reads its directory once."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from textgen.reporting.results import RunFiles
from textgen.reporting.tracking.rows import result_values

pytestmark = pytest.mark.slow

PROGRAM = """
import sys
from pathlib import Path
from textgen.reporting.config import TrackingConfig
from textgen.reporting.results import RunFiles
from textgen.reporting.tracking.rows import TrackedRun
from textgen.reporting.tracking.tracker import start_mirrors

run_dir, count = Path(sys.argv[1]), int(sys.argv[2])
files = RunFiles.read(run_dir)
tracked = TrackedRun(run_dir, files.config, files.environment, "0123456789ab")
[mirror] = start_mirrors(tracked, TrackingConfig(track="trackio", wandb_project="plays"), print)
for row in files.metrics[:count]:
    mirror.log(row | {"system/tokens_per_second": 900.0})
mirror.log_samples(files.samples())
if count == len(files.metrics):
    mirror.finish(run_dir)
else:
    mirror._end({"state": "failed", "exit_code": 3, "message": "the loss is not finite"}, 60)
assert mirror.problem is None, mirror.problem
"""
READER = """
import json, trackio
from trackio.sqlite_storage import SQLiteStorage
runs = [*trackio.Api().runs("plays")]
print(json.dumps([
    {"name": run.name, "config": run.config, "logs": SQLiteStorage.get_logs("plays", run.name, run_id=run.id),
     "alerts": [alert["title"] for alert in run.alerts()]} for run in runs
], default=str))
"""


def python(program: str, *arguments: object, **environment: str) -> str:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("TRACKIO_")}
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        env=clean | environment,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def runs(run_dir: Path) -> list[dict[str, Any]]:
    found = python(READER, TRACKIO_DIR=str(run_dir.parent / "trackio"))
    return json.loads(found.splitlines()[-1])


def test_a_resumed_run_is_one_run_with_every_row_once_and_every_result(run_dir, sample_rows):
    (run_dir / "report.html").write_text("<h1>report</h1>")
    (run_dir / "samples.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in sample_rows(0, 50)))
    files = RunFiles.read(run_dir)
    python(PROGRAM, run_dir, 20)
    [run] = runs(run_dir)
    assert run["alerts"] == ["Training diverged"]
    python(PROGRAM, run_dir, len(files.metrics))
    [run] = runs(run_dir)
    assert run["name"] == "run-012345"
    assert run["config"]["training"]["learning_rate"] == 3e-4
    rows = [log for log in run["logs"] if "train/step" in log]
    assert [row["train/step"] for row in rows] == [row["step"] for row in files.metrics]
    for row, log in zip(files.metrics, rows, strict=True):
        assert {key: log[key] for key in row if key != "step"} == {k: v for k, v in row.items() if k != "step"}
        assert log["system/tokens_per_second"] == 900.0
    [results] = [log for log in run["logs"] if "after/bits_per_byte" in log]
    assert {key: results[key] for key in result_values(files)} == result_values(files)
    assert {"decoding", "continuations", "report"} <= results.keys()
    assert len([log for log in run["logs"] if "samples/texts" in log]) == 2
