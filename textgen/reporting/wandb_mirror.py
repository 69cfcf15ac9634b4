"""Weights & Biases as a mirror of the run directory: nothing it does can stop, slow or change a run."""

import atexit
import os
import queue
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from textgen.reporting.results import RunFiles
from textgen.reporting.sample_tables import MAX_ROWS, GrowingTable
from textgen.reporting.wording import METRICS, compared, visible

Mode = Literal["auto", "online", "offline", "disabled"]
_SUMMARY = ("token_perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte")


class WandbMirror:
    """A W&B run that repeats what the run directory says, or nothing at all if it is off.

    W&B is spoken to on a thread of its own, so that a slow server delays nobody; the first error is said once and turns
    the mirror off. What is lost by that is in the run directory and can be replayed.
    """

    def __init__(self, run: Any, echo: Callable[[str], None]) -> None:
        """A mirror of this ``wandb`` run, or one that does nothing if there is none; see ``start``."""
        self._run = run
        self._echo = echo
        self._logged_step = -1
        self._samples = GrowingTable()
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        if run is not None:
            # A resumed run knows what the server has already; an offline run starts anew, and has it all replayed.
            logged = run.summary.get("train/step") if run.resumed else None
            self._logged_step = int(logged) if isinstance(logged, int | float) else -1
            self._thread = threading.Thread(target=self._work, name="wandb-mirror", daemon=True)
            self._thread.start()
            # A program that ends before ``finish`` must not wait for a dead server either. This runs before W&B's own
            # hook, which was registered earlier and waits far longer for a run that has not been ended.
            atexit.register(self._end, None, 10)

    @classmethod
    def start(
        cls,
        run_dir: Path,
        config: Mapping[str, Any],
        *,
        run_id: str,
        project: str,
        mode: Mode,
        name: str,
        echo: Callable[[str], None],
        init_timeout: float = 20,
    ) -> "WandbMirror":
        """Start, or resume, the W&B run of a run directory. On the main process only; never raises, never asks.

        ``auto`` is online for those who are logged in and offline for others. Online without a key, or with a server
        that does not answer within ``init_timeout`` seconds, becomes offline, with a message to ``echo``.
        """
        if mode == "disabled":
            return cls(None, echo)
        try:
            return cls(_start(run_dir, config, run_id, project, mode, name, echo, init_timeout), echo)
        except Exception as error:
            echo(f"W&B is off for this run: {_reason(error)}. The record is {run_dir / 'metrics.jsonl'}.")
            return cls(None, echo)

    @property
    def is_on(self) -> bool:
        """Whether rows still reach W&B."""
        return self._run is not None

    def log(self, row: Mapping[str, Any]) -> None:
        """Mirror a row of ``metrics.jsonl``; one that W&B has already is left out."""
        step = int(row["step"])
        if step <= self._logged_step:
            return
        self._logged_step = step
        values = {"train/step": step} | {key: value for key, value in row.items() if key != "step"}
        self._do(lambda run: run.log(values))

    def replay(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Mirror the rows that a resumed run has already recorded."""
        for row in rows:
            self.log(row)

    def log_samples(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Mirror rows of ``samples.jsonl``, oldest first; those that W&B has already are left out."""
        if rows:
            self._do(lambda run: self._samples.log(run, rows))

    def finish(self, run_dir: Path, exit_code: int = 0, timeout: float = 120) -> None:
        """Mirror the results, as far as there are any, and end the W&B run, waiting at most ``timeout`` seconds."""
        if exit_code == 0:
            self._do(lambda run: _log_results(run, RunFiles.read(run_dir)))
        self._end(exit_code, timeout)

    def _end(self, exit_code: int | None, timeout: float) -> None:
        """End the W&B run, with the exit code of the program if None is given."""
        if self._run is None:
            return
        self._do(lambda run: run.finish(exit_code=exit_code))
        self._jobs.put(None)
        self._thread.join(timeout)
        if self._run is not None and self._thread.is_alive():
            folder = _folder(self._run)
            self._echo(
                f"W&B did not finish within {timeout:g} s; going on without it. Sync it with `wandb sync {folder}`."
            )
        self._run = None

    def _do(self, job: Callable[[Any], None]) -> None:
        """Hand a job to W&B's own thread."""
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
                if run is not None:  # else it was given up already, and that was said
                    self._echo(f"W&B is off from here on: {_reason(error)}. What it has so far is in {_folder(run)}.")


def is_logged_in() -> bool:
    """Whether W&B has a key for its configured server; asks neither the user nor the network.

    Raises:
        Exception: whatever W&B says about a key that is malformed.
    """
    import wandb

    return bool(wandb.login(prompt=False, verify=False))


def _start(
    run_dir: Path,
    config: Mapping[str, Any],
    run_id: str,
    project: str,
    mode: Mode,
    name: str,
    echo: Callable[[str], None],
    init_timeout: float,
) -> Any:
    """The ``wandb`` run, online if that is wanted and works, and otherwise offline."""
    # W&B's own variable is how a cluster or a test says it for every program.
    wanted = os.environ.get("WANDB_MODE", "auto").lower() if mode == "auto" else mode
    if wanted == "disabled":
        return None
    # W&B's reports about itself hold up the end of the program for 20 s where its server is silent.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb  # here, so that a broken installation is a message and not the end

    # Before any run exists: no banner between our lines, and `online` asked for by flag beats WANDB_MODE.
    quiet = wandb.Settings(silent=True, quiet=True, mode="online")
    wandb.setup(settings=quiet)

    def begin(how: Literal["online", "offline"]) -> Any:
        run = wandb.init(
            project=project,
            id=run_id,
            name=name,
            dir=run_dir,
            config=dict(config),
            mode=how,
            resume="allow" if how == "online" else None,
            settings=_settings(init_timeout),
        )
        _define(run)
        return run

    if wanted in ("auto", "online"):
        try:
            if is_logged_in():
                return begin("online")
            if mode == "online":
                echo("W&B has no key for its server (`wandb login` stores one), so this run is tracked offline.")
        except Exception as error:
            echo(f"W&B could not be reached, so this run is tracked offline: {_reason(error)}")
            wandb.teardown()  # its service still holds the run that could not be started
            wandb.setup(settings=quiet)
    run = begin("offline")
    folder = _folder(run)
    echo(f"W&B offline run: see it with `wandb leet {folder}`, upload it with `wandb sync {folder}`")
    return run


def _settings(init_timeout: float) -> Any:
    """Quiet, bounded in time, and without what may carry a secret: the command line, git state, source, console."""
    import wandb

    return wandb.Settings(
        silent=True,
        quiet=True,
        console="off",
        save_code=False,
        disable_git=True,
        disable_code=True,
        disable_job_creation=True,
        x_disable_meta=True,
        x_save_requirements=False,
        init_timeout=init_timeout,
        finish_timeout=300,  # ours is shorter, and says so
        reinit="finish_previous",
    )


def _define(run: Any) -> None:
    """Steps are ours: W&B's own counter knows nothing of a run that was resumed."""
    run.define_metric("train/step", hidden=True)
    run.define_metric("train/*", step_metric="train/step")
    run.define_metric("eval/*", step_metric="train/step")
    run.define_metric("samples/step", hidden=True)
    run.define_metric("samples/*", step_metric="samples/step")


def _log_results(run: Any, results: RunFiles) -> None:
    """Perplexities into the summary; tables, report and model beside it."""
    import wandb

    for moment in compared(results.perplexity):
        if moment:
            stated = results.perplexity[moment]
            run.summary.update({f"{moment}/{key}": stated[key] for key in _SUMMARY if stated.get(key) is not None})
    tables = {"decoding": decoding_table(results), "continuations": continuations_table(results)}
    media: dict[str, Any] = {
        name: wandb.Table(columns=[*columns], data=rows, log_mode="IMMUTABLE")
        for name, (columns, rows) in tables.items()
        if rows
    }
    report = results.path / "report.html"
    if report.exists():
        media["report"] = wandb.Html(report.read_text(encoding="utf-8"), inject=False)
    if media:
        run.log(media)
    model = results.path / "model"
    if model.is_dir() and any(model.iterdir()):
        artifact = wandb.Artifact(f"model-{run.id}", type="model")
        artifact.add_dir(str(model), policy="immutable")  # uploads from where the files are, without a copy
        run.log_artifact(artifact)


def decoding_table(results: RunFiles) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows of the decoding comparison, a row a strategy and moment."""
    keys = [key for metric in METRICS for key in (metric.key, f"{metric.key}_low", f"{metric.key}_high")]
    rows = []
    for moment in compared(results.decoding):
        for row in results.decoding.get(moment or "", []):
            cells: list[Any] = []
            for metric in METRICS:
                low, high = row.get(f"{metric.key}_interval") or (None, None)
                cells += [_float(value) for value in (row.get(metric.key), low, high)]
            rows.append([moment, str(row.get("strategy")), *cells])
    return ["when", "strategy", *keys], rows[:MAX_ROWS]


def continuations_table(results: RunFiles) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows of the continuations side by side: a row a prompt and sample, a column a strategy and moment."""
    columns: list[str] = []
    prompts: dict[tuple[str, int], dict[str, str]] = {}
    for row in results.continuations():
        human = row["strategy"] == "human"
        column = "human" if human else f"{row['when']}/{row['strategy']}"
        if column not in columns:
            columns.insert(0, column) if human else columns.append(column)
        texts = prompts.setdefault((str(row["prompt_id"]), int(row.get("sample") or 0)), {})
        texts |= {"prompt": visible(row.get("prompt", "")), column: visible(row["text"])}
    rows: list[list[Any]] = [
        [prompt_id, sample, texts["prompt"], *(texts.get(column) for column in columns)]
        for (prompt_id, sample), texts in prompts.items()
    ]
    return ["prompt_id", "sample", "prompt", *columns], rows[:MAX_ROWS]


def _float(value: Any) -> float | None:
    """One type a column, as W&B's tables want it."""
    return None if value is None else float(value)


def _folder(run: Any) -> str:
    """The directory of a W&B run, as `wandb leet` and `wandb sync` take it."""
    return str(run.settings.sync_dir)


def _reason(error: Exception) -> str:
    """The first line of an error, which is all that belongs into the output of a run."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
