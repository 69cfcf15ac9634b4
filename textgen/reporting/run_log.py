"""The one object that a recipe logs to: metrics, timing, samples, measurements, status, console and tracker."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from textgen.checksums import sha256_of, with_seal
from textgen.errors import UserError
from textgen.evaluation.balance import differences, retained_difference
from textgen.evaluation.decoding.generation_config import with_generation_settings
from textgen.evaluation.measure_model import Measurement
from textgen.files import json_bytes, read_json, write_bytes
from textgen.progress import LINE_AFTER, LINE_EVERY
from textgen.reporting.config import TrackingConfig
from textgen.reporting.console import step_line
from textgen.reporting.earlier_end import remove_earlier_end
from textgen.reporting.jsonl import StepRecord
from textgen.reporting.live_panel import LivePanel
from textgen.reporting.publish import publish
from textgen.reporting.results import RETAINED, EvaluationResults
from textgen.reporting.step_clock import StepClock
from textgen.reporting.tracking.rows import tracked_row, tracked_rows
from textgen.reporting.tracking.tracker import Tracker, Trackers, start_tracker
from textgen.run.copies import intact_copy
from textgen.run.directory import RunDirectory
from textgen.run.manifest import damaged_files, hash_model
from textgen.training.environment import environment, peak_memory_bytes
from textgen.training.step import StepResult
from textgen.training.step_events import describe_event
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
        self._metrics, self._timing, self._samples, self._events = (
            StepRecord(directory.path / f"{name}.jsonl") for name in ("metrics", "timing", "samples", "events")
        )
        self._model_files: dict[str, str] = {}
        self._tracker: Tracker = Trackers()
        self._clock, self._logged_step = StepClock(), 0  # the time since the last row, and the step of that row
        self._panel: LivePanel | None = None  # while it trains, on a terminal
        self._last_step, self._next_line = 0, 0.0  # the last step, and when one is printed that is not logged
        accelerator.wait_for_everyone()  # every process has checked the directory before one changes it
        directory.created = not self._writes  # by the main process, for all; which does it here
        if self._writes:
            step, again = directory.status().get("step", 0), directory.has_finished()
            for name in directory.damage() if again else []:
                accelerator.print(f"{directory.path / name}: missing or damaged, so the run is finished again")
            directory.create()
            directory.write_status("running", step=step)
            facts = environment(accelerator) | facts | {"tracking_id": directory.tracking_id()}
            directory.write_file("environment.json", json_bytes(with_seal(facts)))
            self._discard_damaged_results()
            self._tracker = start_tracker(directory, tracking, accelerator.print)
        accelerator.wait_for_everyone()  # every process sees the same results

    def _discard_damaged_results(self) -> None:
        if damaged := self.results.files.damage():
            path = self.results.directory / damaged[0]
            self._accelerator.print(f"{path}: missing or damaged, so what was evaluated is measured again")
            self.results.files.discard()

    def resume_from(self, state: TrainState, checkpoint: Path | None = None) -> None:
        """Let the records end at the checkpoint that training resumes from, and send them to the tracker.

        If the checkpoint is one of this run, the records get the contents that it has of them.

        Raises:
            UserError: a file is damaged of which the checkpoint has no copy, or it lacks rows.
        """
        done = state.first_step - 1
        self._logged_step, self._last_step = done, state.step
        self._next_line = time.monotonic() + LINE_AFTER
        if not self._writes:
            return
        for record in (self._metrics, self._timing, self._samples, self._events):
            self._restore(record, state.step, checkpoint)
        for record in (self._metrics, self._timing, self._samples):
            record.truncate_after(done if state.step else -1)  # what follows an interrupted step is done again
        remove_earlier_end(
            self._metrics, self._timing, self._samples, self.results, self.directory.settings,
            step=state.step, total_steps=self.total_steps,
        )  # fmt: skip
        metrics = self._metrics.read()
        self._check_complete(metrics)
        self.directory.write_status("running", step=state.step)
        self._panel = LivePanel.start(self.total_steps)
        for row in tracked_rows(metrics, self._timing.read()):
            self._tracker.log(row)
        self._tracker.log_samples(self._samples.read())

    def _restore(self, record: StepRecord, step: int, checkpoint: Path | None) -> None:
        self.directory.written[record.path.name] = record.content
        copy = self._copy(record.path.name, step, checkpoint)
        if copy is None:
            record.truncate_after(step)
        elif record.restore(copy):
            self._accelerator.print(f"{record.path}: damaged, so it is restored from {checkpoint}")

    def _copy(self, name: str, step: int, checkpoint: Path | None) -> bytes | None:
        """What a record contained at a step; None if that is unknown, as for a checkpoint of another run."""
        if step == 0:  # a run that starts from scratch samples step 0 again
            return b""
        is_own = checkpoint is not None and checkpoint.resolve().parent.parent == self.directory.path.resolve()
        if checkpoint is None or not is_own or intact_copy(checkpoint, "config.yaml") is None:
            return None
        return intact_copy(checkpoint, name) or b""  # a checkpoint has no copy of a record without rows

    def _check_complete(self, metrics: Sequence[Mapping[str, Any]]) -> None:
        lost = {row["step"] for row in self._timing.read()} - {row["step"] for row in metrics}
        if lost:
            raise UserError(
                f"{self._metrics.path}: rows are missing, such as that of step {min(lost)}. Restore the file, or start "
                "a new run with --resume=never."
            )

    def add_step(self, result: StepResult) -> None:
        """Add a training step to the throughput that the next row reports.

        If steps take long, it is also printed: rows may be minutes apart, and nobody should wonder in the meantime.
        """
        self._clock.add_step(result.seconds, result.targets)
        self._last_step += 1
        if self._panel and not result.skipped:
            self._panel.add_step(self._last_step, result.loss)
        elif self._writes and not result.skipped and time.monotonic() >= self._next_line:
            row = {"step": self._last_step, "train/loss": result.loss}
            self._print(row, self._clock.seconds, self._clock.speed)

    def log(self, row: Mapping[str, Any]) -> None:
        """Log a row of metrics: "step", and values by their names in ``metrics.jsonl`` and on W&B."""
        step = row["step"]
        if self._writes:
            seconds, speed = self._clock.seconds, self._clock.speed
            timing = {"step": step} | self._clock.row() | {"peak_memory_bytes": peak_memory_bytes(self._accelerator)}
            self._metrics.append(row)
            self._timing.append(timing)
            self.directory.write_status("running", step=step)
            self._print(row, seconds, speed)
            self._tracker.log(tracked_row(row, timing))
        self._logged_step = step

    def _print(self, row: Mapping[str, Any], seconds: float, speed: float) -> None:
        """Print a row with the seconds and the speed since the last logged one, and the time left at that speed."""
        step, known = row["step"], speed if seconds else None
        left = (self.total_steps - step) * seconds / (step - self._logged_step) if seconds else None
        if self._panel:
            self._panel.log(row, speed=known, left=left, memory=peak_memory_bytes(self._accelerator))
        if not self._panel or "eval/loss" in row:  # only these lines stay above the panel
            self._accelerator.print(step_line(row, self.total_steps, tokens_per_second=known, seconds_left=left))
        self._next_line = time.monotonic() + LINE_EVERY

    def log_samples(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Log rows of sample texts."""
        if self._writes:
            for row in rows:
                self._samples.append(row)
            if self._panel:
                self._panel.show_sample(rows)
            self._tracker.log_samples(rows)

    def seal_model(self, directory: Path) -> None:
        """Remember what was written to ``model/``: :meth:`finish` checks that it is still the same."""
        if self._writes:
            self._model_files = hash_model(directory)
            if self._panel:
                self._panel.close()
                self._panel = None

    def log_event(self, event: dict[str, Any]) -> None:
        """Log a row of ``events.jsonl``: see :mod:`textgen.training.step_events`."""
        if self._writes:
            self._events.append(event)
            self._accelerator.print(describe_event(event))

    def write_measurement(self, moment: str, measurement: Measurement) -> None:
        """Write what was measured at a moment: "before", "after", "baseline" or "model"."""
        if self._writes:
            self.results.write(moment, measurement)

    def apply_recommendation(self, moment: str) -> None:
        """Write the recommended strategy of a moment into ``model/generation_config.json``, if it is confirmed.

        Nothing is written with ``--no-recommend``, for a strategy that transformers does not have, or into an adapter,
        which has no such file. Written again, it is the same.

        Raises:
            UserError: a file of the model was damaged.
        """
        entry = self.results.recommendation().get(moment, {})
        settings, name = entry.get("generation_config"), "model/generation_config.json"
        wanted = self.directory.settings["recommend"] and entry.get("confirmed") and settings is not None
        if self._writes and wanted and name in self._model_files:
            self._check_model()
            path = self.directory.path / name
            content = json_bytes(with_generation_settings(read_json(path), settings))
            write_bytes(path, content)
            self._model_files[name] = sha256_of(content)
            self.results.write_recommended_file(moment, name)

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

        Files that were damaged since they were written are written again.

        Raises:
            UserError: a file of the model was damaged.
        """
        if self._writes:
            self._mend()
            publish(self.directory.path, self.results, self._accelerator.print)
            self._tracker.finish(self.directory.path)
            evaluated = {f"evaluation/{name}": sha256 for name, sha256 in self.results.files.hashes().items()}
            self.directory.finish(self._model_files | evaluated, step=self.total_steps)
        self._accelerator.wait_for_everyone()  # a launcher may end all processes once one has ended

    def _mend(self) -> None:
        self.directory.write_status("running", step=self.total_steps)
        mended = self.directory.mend() + [f"evaluation/{name}" for name in self.results.files.mend()]
        for name in mended:
            self._accelerator.print(f"{self.directory.path / name}: damaged during the run, so it is written again")
        self._check_model()

    def _check_model(self) -> None:
        if damaged := damaged_files(self.directory.path, self._model_files):
            raise UserError(
                f"{self.directory.path / damaged[0]}: damaged since it was written. Run the same command again: it "
                "restores the model from the last checkpoint."
            )
