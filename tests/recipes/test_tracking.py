"""No tracker, slow or dead, changes a result or loses a row (promise 8)."""

import time
from pathlib import Path

import pytest
from running import LIGHT, tree
from wandb_server import no_server, steps, stub

from textgen.reporting.jsonl import read_rows

pytestmark = pytest.mark.slow

SERVERS = {
    "works": (),
    "refuses": None,
    "answers 500": ("--fail", ""),
    "hangs": ("--hang", ""),
    "answers 500 to rows": ("--fail", "file_stream"),
    "hangs on rows": ("--hang", "file_stream"),
    "dies in mid-run": ("--die-after", "2"),
}


SAMPLE = ("works", "hangs on rows", "dies in mid-run")


@pytest.mark.parametrize(
    "server", [pytest.param(name, marks=[] if name in SAMPLE else pytest.mark.exhaustive) for name in SERVERS]
)
def test_a_server_changes_no_byte_and_is_waited_for_no_longer_than_was_said(
    server: str, plain: Path, run_recipe, text_file, tmp_path: Path, monkeypatch
) -> None:
    options = SERVERS[server]
    with no_server() if options is None else stub(*options) as (environment, events):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        flags = [*LIGHT, "--wandb-mode", "online", "--wandb-timeout", 5, "--data", text_file]
        start = time.monotonic()
        ran = run_recipe("finetune", *flags, "--run-dir", tmp_path / "run")
        seconds = time.monotonic() - start
    assert tree(tmp_path / "run/model") == tree(plain / "model")
    assert (tmp_path / "run/metrics.jsonl").read_bytes() == (plain / "metrics.jsonl").read_bytes()
    assert '"state": "done"' in (tmp_path / "run/status.json").read_text()
    assert "Traceback" not in ran.error
    assert seconds < 100
    if server == "works":
        assert steps(events) == [1, 2, 3, 4, 5, 6]
    else:
        assert "textgen replay" in ran.out or "wandb sync" in ran.out


def test_several_trackers_at_once_have_every_row_and_change_no_byte(
    plain, run_recipe, text_file, tmp_path, monkeypatch
):
    from mlflow import MlflowClient
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for name in ("MLFLOW_TRACKING_URI", "TRACKIO_DIR"):
        monkeypatch.delenv(name, raising=False)
    flags = [*LIGHT, "--wandb-mode", "offline", "--track", "wandb,tensorboard,trackio,mlflow", "--data", text_file]
    ran = run_recipe("finetune", *flags, "--run-dir", tmp_path / "runs/one")
    assert tree(tmp_path / "runs/one/model") == tree(plain / "model")
    rows = read_rows(tmp_path / "runs/one/metrics.jsonl")
    assert (tmp_path / "runs/one/metrics.jsonl").read_bytes() == (plain / "metrics.jsonl").read_bytes()
    assert "disabled" not in ran.out
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["mlflow", "one", "trackio"]
    assert len([*(tmp_path / "runs/one/wandb").glob("offline-run-*")]) == 1

    events = EventAccumulator(str(tmp_path / "runs/one/tensorboard"))
    events.Reload()
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'runs/mlflow/mlflow.db'}")
    [run] = client.search_runs([client.get_experiment_by_name("textgen").experiment_id])
    for key in ("train/loss", "system/tokens_per_second", "system/evaluation_share"):
        expected = [row["step"] for row in rows]
        assert [event.step for event in events.Scalars(key)] == expected
        assert sorted(one.step for one in client.get_metric_history(run.info.run_id, key)) == expected
    assert [event.value for event in events.Scalars("train/loss")] == pytest.approx([row["train/loss"] for row in rows])
    assert (tmp_path / "runs/trackio/textgen.db").stat().st_size > 0


def test_a_tracker_that_cannot_start_is_a_message(plain, run_recipe, text_file, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://nowhere")
    ran = run_recipe("finetune", *LIGHT, "--track", "mlflow", "--data", text_file, "--run-dir", tmp_path / "run")
    assert (tmp_path / "run/metrics.jsonl").read_bytes() == (plain / "metrics.jsonl").read_bytes()
    assert "MLflow disabled for this run: " in ran.out
    assert f"`textgen replay {tmp_path / 'run'} --track mlflow` uploads it" in ran.out


def test_an_evaluation_is_linked_to_the_model_that_a_run_made(plain, run_recipe, text_file, tmp_path, monkeypatch):
    with stub() as (environment, events):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        common = ["--data", text_file, "--wandb-mode", "online", "--skip-decoding", "--threads", 1]
        run_recipe("finetune", *LIGHT, *common, "--run-dir", tmp_path / "run")
        run_recipe("evaluate", *common, "--model", tmp_path / "run/model", "--baseline", "tiny-gpt2",
                   "--output-dir", tmp_path / "evaluated")  # fmt: skip
    called = [
        (event["operation"], (event["variables"] or {}).get("input") or {}) for event in events if "operation" in event
    ]
    made = [given["artifactCollectionName"] for name, given in called if name == "CreateArtifact"]
    [model] = {name for name in made if name.startswith("model-")}
    used = [given["artifactID"] for name, given in called if name == "UseArtifact"]
    assert len([one for one in used if one.startswith(f"{model}/")]) == 1
    assert {one.split("/")[0] for one in used} == {model, "base-tiny-gpt2", "data-texts"}
    assert len({one for one in used if one.startswith("base-tiny-gpt2/")}) == 1, "the same version, in both runs"
    jobs = [event["variables"].get("jobType") for event in events if event.get("operation") == "UpsertBucket"]
    assert {"finetune", "evaluate"} <= set(jobs)
