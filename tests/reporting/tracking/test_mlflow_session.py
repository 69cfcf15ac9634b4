"""Runs of MLflow that MLflow itself reads back."""

from pathlib import Path

import pytest

from textgen.reporting.config import TrackingConfig
from textgen.reporting.results import RunFiles
from textgen.reporting.tracking.rows import TrackedRun, result_values
from textgen.reporting.tracking.tracker import start_mirrors


@pytest.fixture(autouse=True)
def no_server(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def track(run_dir: Path, rows: list[dict], samples: list[dict], status: str | None = None) -> None:
    files = RunFiles.read(run_dir)
    tracked = TrackedRun(run_dir, files.config, files.environment, "abc")
    [mirror] = start_mirrors(tracked, TrackingConfig(track="mlflow", wandb_project="plays"), print)
    for row in rows:
        mirror.log(row)
    mirror.log_samples(samples)
    mirror._end({"state": status}, 60) if status else mirror.finish(run_dir)
    assert mirror.problem is None


@pytest.mark.slow
def test_a_resumed_run_is_one_run_with_every_row_once_and_every_result(run_dir, sample_rows):
    from mlflow import MlflowClient

    (run_dir / "report.html").write_text("<h1>report</h1>")
    files = RunFiles.read(run_dir)
    rows = [row | {"system/tokens_per_second": 900.0} for row in files.metrics]
    folder = run_dir.parent / "mlflow"
    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")

    def only_run():
        [found] = client.search_runs([client.get_experiment_by_name("plays").experiment_id])
        return found

    track(run_dir, rows[:20], sample_rows(0), "preempted")
    assert only_run().info.status == "KILLED"
    track(run_dir, rows, sample_rows(0, 50))
    run = only_run()
    assert (run.info.status, run.info.run_name) == ("FINISHED", "run")
    keys = {key for row in rows for key in row} - {"step"}
    assert len(keys) == 6
    for key in keys:
        history = sorted((one.step, one.value) for one in client.get_metric_history(run.info.run_id, key))
        assert history == [(row["step"], row[key]) for row in rows if key in row]
    assert {key: run.data.metrics[key] for key in result_values(files)} == result_values(files)
    assert run.data.params["training.learning_rate"] == "0.0003"
    assert run.data.params["model.model"] == "tiny-gpt2"
    stored = {
        path.path for place in ("samples", "evaluation") for path in client.list_artifacts(run.info.run_id, place)
    }
    assert stored == {
        "samples/step-00000000.jsonl", "samples/step-00000050.jsonl", "evaluation/perplexity.json",
        "evaluation/decoding.json", "evaluation/recommendation.json", "evaluation/report.html",
    }  # fmt: skip
    assert (folder / "artifacts").is_dir()
