"""Event files that TensorBoard itself reads back."""

from pathlib import Path

import pytest

from textgen.reporting.config import TrackingConfig
from textgen.reporting.results import RunFiles
from textgen.reporting.tracking.rows import TrackedRun, result_values
from textgen.reporting.tracking.tracker import start_mirrors


@pytest.fixture
def lines() -> list[str]:
    return []


def track(run_dir: Path, lines: list[str], rows: list[dict], samples: list[dict], *, finish: bool = True) -> None:
    files = RunFiles.read(run_dir)
    tracked = TrackedRun(run_dir, files.config, files.environment, "abc")
    [mirror] = start_mirrors(tracked, TrackingConfig(track="tensorboard"), lines.append)
    for row in rows:
        mirror.log(row)
    mirror.log_samples(samples)
    mirror.finish(run_dir) if finish else mirror._end({"state": "failed"}, 60)
    assert mirror.problem is None


def read(run_dir: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(run_dir / "tensorboard"), size_guidance={"scalars": 0, "tensors": 0})
    found.Reload()
    return found


def test_every_row_and_every_result_is_read_back(run_dir, lines, sample_rows):
    files = RunFiles.read(run_dir)
    rows = [row | {"system/tokens_per_second": 900.0} for row in files.metrics]
    track(run_dir, lines, rows, sample_rows(0, 50))
    found = read(run_dir)
    keys = {key for row in rows for key in row} - {"step"}
    assert len(keys) == 6
    for key in keys:
        events = [(event.step, pytest.approx(event.value, rel=1e-6)) for event in found.Scalars(key)]
        assert events == [(row["step"], row[key]) for row in rows if key in row]
    for key, value in result_values(files).items():
        [event] = found.Scalars(key)
        assert (event.step, event.value) == (400, pytest.approx(value, rel=1e-6))
    texts = found.Tensors("samples/greedy/texts#0/text_summary")
    assert [event.step for event in texts] == [0, 50]
    assert b"greedy of 0 at 50" in texts[1].tensor_proto.string_val[0]
    assert b'"learning_rate": 0.0003' in found.Tensors("config/text_summary")[0].tensor_proto.string_val[0]
    assert lines == [f"TensorBoard: view the run with `tensorboard --logdir {run_dir / 'tensorboard'}`"]


def test_a_resumed_run_has_every_row_once(run_dir, lines):
    rows = RunFiles.read(run_dir).metrics
    track(run_dir, lines, rows[:30], [], finish=False)
    track(run_dir, lines, rows[:20], [], finish=False)
    track(run_dir, lines, rows, [])
    steps = [event.step for event in read(run_dir).Scalars("train/loss")]
    assert steps == [row["step"] for row in rows]
    assert len([*(run_dir / "tensorboard").iterdir()]) == 1
