"""The one object that a recipe logs to: metrics, timing, samples, measurements, status, console and tracker."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from accelerate import Accelerator

from textgen.errors import UserError
from textgen.evaluation.balance import differences, retained_difference
from textgen.evaluation.measure_model import Measurement
from textgen.files import write_json
from textgen.progress import LINE_AFTER, LINE_EVERY
from textgen.reporting.config import TrackingConfig
from textgen.reporting.console import step_line
from textgen.reporting.earlier_end import remove_earlier_end
from textgen.reporting.jsonl import StepRecord
from textgen.reporting.publish import publish
from textgen.reporting.results import RETAINED, EvaluationResults
from textgen.reporting.tracking.tracker import NoTracker, Tracker, start_tracker
from textgen.run.directory import RunDirectory
from textgen.training.environment import environment, peak_memory_bytes
from textgen.training.step import StepResult
from textgen.training.train_state import TrainState


class RunLog:
    """Logs a run. All processes call it; only the main process writes.

    A row is on disk before the console and the experiment tracker get it.

    Args:
        accelerator: this process's Accelerator.
        directory: the run directory, which this run claims by writing ``config.yaml``, ``environment.json`` and
            ``status.json``.
        tracking: which experiment tracker to start.
        facts: what ``environment.json`` contains besides versions, processes and device.
        total_steps: number of training steps; 0 for an evaluation.

    Attributes:
        results: what was measured so far, also before an interruption; the same on every process.

    Raises:
        UserError: the directory is not writable.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        directory: RunDirectory,
        tracking: TrackingConfig,
        facts: dict[str, Any],
        *,
        total_steps: int = 0,
    ) -> None:
        self.directory, self.total_steps = directory, total_steps
        self.results = EvaluationResults(directory.path, with_decoding=not directory.settings["skip_decoding"])
        self._accelerator, self._writes = accelerator, accelerator.is_main_process
        self._metrics, self._timing, self._samples = (
            StepRecord(directory.path / f"{name}.jsonl") for name in ("metrics", "timing", "samples")
        )
        self._tracker: Tracker = NoTracker()
        self._seconds, self._targets, self._logged_step = 0.0, 0, 0  # since the last row, and the step of that row
        self._last_step, self._next_line = 0, 0.0  # the last step, and when one is printed that is not logged
        accelerator.wait_for_everyone()  # every process has checked the directory before one changes it
        if self._writes:
            step = directory.status().get("step", 0)
            directory.create()
            directory.write_status("running", step=step)
            facts = environment(accelerator) | facts | {"tracking_id": directory.tracking_id()}
            write_json(directory.path / "environment.json", facts)
            self._tracker = start_tracker(directory, tracking, accelerator.print)

    def resume_from(self, state: TrainState) -> None:
        """Remove rows after the checkpoint that training resumes from, and send the tracker the rows that it lacks.

        Raises:
            UserError: a file is damaged, or rows of ``metrics.jsonl`` are missing.
        """
        self._logged_step = self._last_step = state.step
        self._next_line = time.monotonic() + LINE_AFTER
        if not self._writes:
            return
        last = state.step or -1  # a run that starts from scratch samples step 0 again
        for record in (self._metrics, self._timing, self._samples):
            record.truncate_after(last)
        remove_earlier_end(
            self._metrics, self._timing, self._samples, self.results, self.directory.settings,
            step=state.step, total_steps=self.total_steps,
        )  # fmt: skip
        metrics = self._metrics.read()
        lost = {row["step"] for row in self._timing.read()} - {row["step"] for row in metrics}
        if lost:
            raise UserError(
                f"{self._metrics.path}: rows are missing, such as that of step {min(lost)}. Restore the file, or start "
                "a new run with --resume=never."
            )
        self.directory.write_status("running", step=state.step)
        for row in metrics:
            self._tracker.log(row)
        self._tracker.log_samples(self._samples.read())

    def add_step(self, result: StepResult) -> None:
        """Add a training step to the throughput that the next row reports.

        If steps take long, it is also printed: rows may be minutes apart, and nobody should wonder in the meantime.
        """
        self._seconds += result.seconds
        self._targets += result.targets
        self._last_step += 1
        if self._writes and time.monotonic() >= self._next_line:
            self._print({"step": self._last_step, "train/loss": result.loss})

    def log(self, row: Mapping[str, Any]) -> None:
        """Log a row of metrics: "step", and values by their names in ``metrics.jsonl`` and on W&B."""
        step = row["step"]
        if self._writes:
            timing = {"step": step, "seconds": self._seconds, "tokens_per_second": self._targets / self._seconds}
            self._metrics.append(row)
            self._timing.append(timing | {"peak_memory_bytes": peak_memory_bytes(self._accelerator)})
            self.directory.write_status("running", step=step)
            self._print(row)
            self._tracker.log(row)
        self._seconds, self._targets, self._logged_step = 0.0, 0, step

    def _print(self, row: Mapping[str, Any]) -> None:
        """Print a row with the speed since the last logged one, and the time left at that speed."""
        step, rate = row["step"], self._targets / self._seconds
        seconds_left = (self.total_steps - step) * self._seconds / (step - self._logged_step)
        self._accelerator.print(step_line(row, self.total_steps, tokens_per_second=rate, seconds_left=seconds_left))
        self._next_line = time.monotonic() + LINE_EVERY

    def log_samples(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Log rows of sample texts."""
        if self._writes:
            for row in rows:
                self._samples.append(row)
            self._tracker.log_samples(rows)

    def write_measurement(self, moment: str, measurement: Measurement) -> None:
        """Write what was measured at a moment: "before", "after", "baseline" or "model"."""
        if self._writes:
            self.results.write(moment, measurement)

    def write_difference(self, first: str, second: str, *, seed: int) -> None:
        """Write the paired difference between two measured moments; ``seed`` is the bootstrap's.

        Raises:
            UserError: a file of the run is damaged, or the text of ``--retain-data`` has changed.
        """
        if self._writes:
            reference, other = self.results.scores(first), self.results.scores(second)
            contaminated = {row["id"] for row in self.results.contamination().get("documents", [])}
            difference = differences(reference, other, contaminated, seed=seed)
            retained = [self.results.scores(moment, RETAINED) for moment in (first, second)]
            self.results.write_difference(
                difference, retained_difference(*retained, seed=seed) if any(retained) else None
            )

    def finish(self) -> None:
        """Write the report and the model card, print the results, end the tracker's run, and mark the run as done.

        Raises:
            UserError: a file of the run is damaged.
        """
        if self._writes:
            publish(self.directory.path, self.results, self._accelerator.print)
            self._tracker.finish(self.directory.path)
            self.directory.write_status("done", step=self.total_steps, exit_code=0)
        # A process that leaves right after a broadcast can hang: gloo's thread needs the interpreter's lock to free the
        # tensors, and the interpreter waits for that thread. A barrier in between frees them in time.
        self._accelerator.wait_for_everyone()
