"""A run on Weights & Biases: what is sent to it while a run trains and when it ends, and whether it arrived."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from textgen.reporting.config import TrackingConfig
from textgen.reporting.results import RunFiles
from textgen.reporting.tracking.rows import STEP, TrackedRun, logged_values
from textgen.reporting.tracking.wandb_lineage import log_lineage
from textgen.reporting.tracking.wandb_results import log_results
from textgen.reporting.tracking.wandb_run import start_wandb_run, synced_before
from textgen.reporting.tracking.wandb_tables import SAMPLED, SamplesTable
from textgen.terminal import shown

_INIT_TIMEOUT = 20  # seconds that a server has to answer at the start
_LONGEST_ALERT = 1000  # characters
_CHECKS = 5  # times that a server is asked, a second apart, what it has: it may need a moment
_CHECK_TIMEOUT = 10  # seconds that it has to answer
_QUERY = """query RunRows($entity: String!, $project: String!, $run: String!) {
  project(name: $project, entityName: $entity) { run(name: $run) { historyLineCount summaryMetrics } }
}"""


def start_wandb(
    tracked: TrackedRun,
    config: TrackingConfig,
    echo: Callable[[str], None],
    *,
    fallback: bool = True,
    init_timeout: float = _INIT_TIMEOUT,
) -> "WandbSession | None":
    """Start or resume the W&B run of a run directory; None if W&B is disabled.

    ``auto`` is online if the user is logged in, otherwise offline. Online without a key, or with a server that does not
    answer within ``init_timeout`` seconds, becomes offline, with a message to ``echo``; without ``fallback`` it is an
    exception instead.
    """
    init = {
        "dir": tracked.path,
        "config": tracked.config,
        "id": tracked.id,
        "project": config.wandb_project,
        "name": tracked.name,
        "job_type": "evaluate" if tracked.is_evaluation else "finetune",
        "tags": [shown(tag) for tag in config.tags] or None,
        "group": config.wandb_group and shown(config.wandb_group),
        "notes": config.wandb_notes and shown(config.wandb_notes),
    }
    run = start_wandb_run(init, config.wandb_mode, echo, init_timeout, fallback=fallback)
    return None if run is None else WandbSession(run, tracked)


class WandbSession:
    """A :class:`textgen.reporting.tracking.mirror.Session` of W&B.

    Args:
        run: the ``wandb`` run.
        tracked: the run that it shows.
    """

    def __init__(self, run: Any, tracked: TrackedRun) -> None:
        # A resumed run reports what the server already has. An offline run gets every row again, except those that were
        # synced since, and continues their numbers.
        known = run.summary if run.resumed else synced_before(run) if run.offline else {}
        if not run.resumed and (last := _step(known.get("_step"))) >= 0:
            run.log({}, step=last + 1, commit=False)
        self.logged_step, self.sampled_step = _step(known.get(STEP)), _step(known.get(SAMPLED))
        self._run, self._tracked, self._samples = run, tracked, SamplesTable()

    def log(self, row: Mapping[str, Any]) -> None:
        """Send a row."""
        self._run.log(logged_values(row))

    def log_samples(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add rows to the table of sample texts."""
        self._samples.log(self._run, rows)

    def log_results(self, files: RunFiles) -> None:
        """Send everything that was measured, the report, and what the run used and made."""
        log_results(self._run, files)
        log_lineage(self._run, self._tracked, files)

    def end(self, status: Mapping[str, Any]) -> str | None:
        """Send an alert unless the run was only stopped, end the run, and ask the server what it has."""
        state, message = status.get("state"), str(status.get("message") or "")
        if state == "preempted":
            self._run.mark_preempting()
        elif state == "done":
            self._run.alert(title="Run finished", text=self._finding(), level="INFO")
        elif message:
            title = "Training diverged" if status.get("exit_code") == 3 else "Run failed"
            text = shown(f"{self._tracked.name}: {message}")[:_LONGEST_ALERT]
            self._run.alert(title=title, text=text, level="ERROR")
        steps = self._run.step
        self._run.finish(exit_code=0 if state == "done" else status.get("exit_code") or 1)
        return None if self._run.offline else self._missing(steps)

    def _finding(self) -> str:
        """What a run found, in a line."""
        summary = self._run.summary
        values = [summary.get(f"{moment}/bits_per_byte") for moment in ("before", "after", "baseline", "model")]
        found = " → ".join(f"{value:.3f}" for value in values if isinstance(value, float))
        return f"{self._tracked.name}{f': bits per byte {found}' if found else ''}"

    def _missing(self, lines: int) -> str | None:
        """What the server lacks, if it says what it has: W&B drops rows that its server refuses, and only logs it.

        Args:
            lines: the rows of the run that were sent to W&B, now and before.
        """
        last = -1
        rows: Any = None
        for attempt in range(_CHECKS):
            time.sleep(1 if attempt else 0)
            try:
                on_server = self._on_server()
                rows, last = on_server["historyLineCount"], _step(json.loads(on_server["summaryMetrics"]).get(STEP))
            except Exception:  # it cannot be asked: then nothing is known
                return None
            if last >= self.logged_step and (rows is None or rows >= lines):
                return None
        if last < self.logged_step:
            return f"W&B has no row after step {max(last, 0)}, although it was sent them up to step {self.logged_step}"
        return f"W&B has {rows} of {lines} rows"

    def _on_server(self) -> dict[str, Any]:
        """What the server has of the run. Not by ``Api.run``, which creates a directory for each run that it reads."""
        import wandb

        names = {"entity": self._run.entity, "project": self._run.project, "run": self._run.id}
        service = wandb.Api(timeout=_CHECK_TIMEOUT)._service_api
        answer: dict[str, Any] = service.execute_graphql(_QUERY, names, timeout=_CHECK_TIMEOUT)
        return dict(answer["project"]["run"])


def _step(value: Any) -> int:
    return int(value) if isinstance(value, int | float) else -1
