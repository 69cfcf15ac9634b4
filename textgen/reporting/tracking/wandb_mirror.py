"""Weights & Biases as a mirror of the run directory, which cannot stop, slow down or change a run."""

import atexit
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from textgen.errors import first_line
from textgen.reporting.columns import PERPLEXITIES
from textgen.reporting.config import WandbMode
from textgen.reporting.results import RETAINED, RunFiles, moments
from textgen.reporting.tracking.wandb_run import run_directory, start_wandb_run
from textgen.reporting.tracking.wandb_tables import SamplesTable, continuations_table, decoding_table
from textgen.terminal import shown


class WandbMirror:
    """A W&B run that mirrors the run directory, or does nothing if there is no W&B run.

    All calls to W&B run on a separate thread, so that a slow server delays nothing. The first error is reported and
    disables the mirror; what W&B then lacks is still in the run directory.

    Args:
        run: the ``wandb`` run, or None; see :meth:`start`.
        echo: prints a message.
    """

    def __init__(self, run: Any, echo: Callable[[str], None]) -> None:
        self._run = run
        self._echo = echo
        self._logged_step = -1
        self._samples = SamplesTable()
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        if run is not None:
            # A resumed run reports what the server already has; an offline run starts empty and gets every row again.
            logged = run.summary.get("train/step") if run.resumed else None
            self._logged_step = int(logged) if isinstance(logged, int | float) else -1
            self._thread = threading.Thread(target=self._work, name="wandb-mirror", daemon=True)
            self._thread.start()
            # A program that exits before ``finish`` must not hang on a dead server either. This runs before W&B's own
            # exit hook, which was registered earlier and waits far longer for an unfinished run.
            atexit.register(self._end, None, 10)

    @classmethod
    def start(
        cls,
        run_dir: Path,
        config: Mapping[str, Any],
        *,
        run_id: str,
        project: str,
        mode: WandbMode,
        name: str,
        echo: Callable[[str], None],
        init_timeout: float = 20,
    ) -> "WandbMirror":
        """Start or resume the W&B run of a run directory. On the main process only; never raises, never prompts.

        ``auto`` is online if the user is logged in, otherwise offline. Online without a key, or with a server that does
        not answer within ``init_timeout`` seconds, becomes offline, with a message to ``echo``.
        """
        run = None
        if mode != "disabled":
            init = {"dir": run_dir, "config": _shown(config), "id": run_id, "project": project, "name": shown(name)}
            try:
                run = start_wandb_run(init, mode, echo, init_timeout)
            except Exception as error:
                echo(f"W&B disabled for this run: {first_line(error)}. Metrics are in {run_dir / 'metrics.jsonl'}.")
        return cls(run, echo)

    def log(self, row: Mapping[str, Any]) -> None:
        """Mirror a row of ``metrics.jsonl``, unless W&B already has it."""
        step = int(row["step"])
        if step <= self._logged_step:
            return
        self._logged_step = step
        values = {"train/step": step} | {key: value for key, value in row.items() if key != "step"}
        self._do(lambda run: run.log(values))

    def log_samples(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Mirror rows of ``samples.jsonl``, oldest first, except those that W&B already has."""
        if rows:
            self._do(lambda run: self._samples.log(run, rows))

    def finish(self, run_dir: Path, timeout: float = 120) -> None:
        """Mirror the results and end the W&B run, waiting at most ``timeout`` seconds."""
        self._do(lambda run: _log_results(run, RunFiles.read(run_dir)))
        self._end(0, timeout)

    def _end(self, exit_code: int | None, timeout: float) -> None:
        """End the W&B run; its exit code is that of the program if None is given."""
        if self._run is None:
            return
        self._do(lambda run: run.finish(exit_code=exit_code))
        self._jobs.put(None)
        self._thread.join(timeout)
        if self._run is not None and self._thread.is_alive():
            self._echo(
                f"W&B did not finish within {timeout:g} s; continuing without it. Upload the run with "
                f"`wandb sync {run_directory(self._run)}`."
            )
        self._run = None

    def _do(self, job: Callable[[Any], None]) -> None:
        """Queue a job for the W&B thread."""
        run = self._run
        if run is not None:
            self._jobs.put(lambda: job(run))

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            if self._run is None:
                continue
            try:
                job()
            except Exception as error:
                run, self._run = self._run, None
                if run is not None:  # otherwise ``_end`` has already given up and reported it
                    self._echo(
                        f"W&B disabled after an error: {first_line(error)}. Rows logged so far are in "
                        f"{run_directory(run)}."
                    )


def _shown(config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as a page of W&B may show them."""
    return {name: shown(value) if isinstance(value, str) else value for name, value in config.items()}


def _balance(files: RunFiles) -> dict[str, Any]:
    """Bits per byte without contaminated documents and of retained text, their differences, and the contamination."""
    values = {}
    for key in (*moments(files.perplexity), "difference"):
        entry = files.perplexity.get(key, {})
        values[f"uncontaminated/{key}/bits_per_byte"] = entry.get("uncontaminated", {}).get("bits_per_byte")
        values[f"retained/{key}/bits_per_byte"] = files.perplexity.get(RETAINED, {}).get(key, {}).get("bits_per_byte")
    if files.contamination:
        values["contaminated_documents"] = len(files.contamination["documents"])
    return {key: value for key, value in values.items() if value is not None}


def _log_results(run: Any, files: RunFiles) -> None:
    """Perplexities go to the summary; tables, report and model are logged."""
    import wandb

    for moment in moments(files.perplexity):
        values = {f"{moment}/{column.key}": files.perplexity[moment].get(column.key) for column in PERPLEXITIES}
        run.summary.update({key: value for key, value in values.items() if value is not None})
    run.summary.update(_balance(files))
    tables = {"decoding": decoding_table(files), "continuations": continuations_table(files)}
    media: dict[str, Any] = {
        name: wandb.Table(columns=[*columns], data=rows, log_mode="IMMUTABLE")
        for name, (columns, rows) in tables.items()
        if rows
    }
    report = files.path / "report.html"
    if report.exists():
        media["report"] = wandb.Html(report.read_text(encoding="utf-8"), inject=False)
    if media:
        run.log(media)
    model = files.path / "model"
    if model.is_dir() and any(model.iterdir()):
        artifact = wandb.Artifact(f"model-{run.id}", type="model")
        artifact.add_dir(str(model), policy="immutable")  # uploads the files in place, without a copy
        run.log_artifact(artifact)
