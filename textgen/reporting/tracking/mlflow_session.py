"""MLflow: a run in a database beside the run directory, or wherever ``MLFLOW_TRACKING_URI`` says."""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from textgen.files import json_line
from textgen.reporting.config import TrackingConfig
from textgen.reporting.formatting import finite
from textgen.reporting.results import RunFiles
from textgen.reporting.tracking.rows import STEP, TrackedRun, logged_values, result_values

_ID = "textgen.id"
_SAMPLED = "textgen.sampled_step"
_LONGEST = 500  # characters of a parameter
_MOST = 100  # parameters in one call
_STATUS = {"done": "FINISHED", "preempted": "KILLED"}


def prepare_mlflow() -> None:
    """Before the library is imported: nothing is reported to its makers, or printed, unless the user asks for it."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")


def start_mlflow(
    tracked: TrackedRun, config: TrackingConfig, echo: Callable[[str], None], *, fallback: bool = True
) -> "MlflowSession":
    """Start or resume the run of a run directory, in the experiment that is called like the W&B project."""
    from mlflow import MlflowClient

    folder = tracked.path.resolve().parent / "mlflow"
    uri, place = os.environ.get("MLFLOW_TRACKING_URI"), None
    if not uri:
        folder.mkdir(exist_ok=True)
        uri, place = f"sqlite:///{folder / 'mlflow.db'}", (folder / "artifacts").as_uri()
        echo(f"MLflow: view the runs with `mlflow ui --backend-store-uri {uri}`")
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(config.wandb_project)
    number = experiment.experiment_id if experiment else client.create_experiment(config.wandb_project, place)
    found = client.search_runs([number], filter_string=f"tags.`{_ID}` = '{tracked.id}'", max_results=1)
    run = found[0] if found else _create(client, number, tracked)
    if found:
        client.update_run(run.info.run_id, status="RUNNING")
    return MlflowSession(client, run)


def _create(client: Any, experiment: str, tracked: TrackedRun) -> Any:
    from mlflow.entities import Param

    run = client.create_run(experiment, tags={_ID: tracked.id}, run_name=tracked.name)
    params = [Param(key, str(value)[:_LONGEST]) for key, value in _flat(tracked.config)]
    for start in range(0, len(params), _MOST):
        client.log_batch(run.info.run_id, params=params[start : start + _MOST])
    return run


class MlflowSession:
    """A :class:`textgen.reporting.tracking.mirror.Session` of MLflow.

    Args:
        client: its client.
        run: the run, as it was when it was found.
    """

    def __init__(self, client: Any, run: Any) -> None:
        self.logged_step = int(run.data.metrics.get(STEP, -1))
        self.sampled_step = int(run.data.tags.get(_SAMPLED, -1))
        self._client, self._id = client, run.info.run_id

    def log(self, row: Mapping[str, Any]) -> None:
        """Send every number of a row."""
        self._log(logged_values(row), int(row["step"]))

    def log_samples(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Send sample texts as a file for each step."""
        by_step: dict[int, list[Mapping[str, Any]]] = {}
        for row in rows:
            by_step.setdefault(int(row["step"]), []).append(row)
        for step, own in by_step.items():
            text = b"".join(map(json_line, own)).decode()
            self._client.log_text(self._id, text, f"samples/step-{step:08}.jsonl")
            self._client.set_tag(self._id, _SAMPLED, step)

    def log_results(self, files: RunFiles) -> None:
        """Send every figure that was measured, at the last step; the files of the evaluation, and the report."""
        self._log(result_values(files), int(files.metrics[-1]["step"]) if files.metrics else 0)
        for path in (*sorted((files.path / "evaluation").glob("*.json")), files.path / "report.html"):
            if path.is_file():
                self._client.log_artifact(self._id, str(path), "evaluation")

    def end(self, status: Mapping[str, Any]) -> None:
        """End the run."""
        self._client.set_terminated(self._id, _STATUS.get(str(status.get("state")), "FAILED"))

    def _log(self, values: Mapping[str, Any], step: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        numbers = [Metric(key, value, now, step) for key, value in values.items() if finite(value) is not None]
        for start in range(0, len(numbers), _MOST):
            self._client.log_batch(self._id, metrics=numbers[start : start + _MOST])


def _flat(nested: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in nested.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
