"""Weights & Biases as a mirror of the run directory, which cannot stop, slow down or change a run."""

import atexit
import contextlib
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from textgen.errors import first_line
from textgen.reporting.config import WandbMode
from textgen.reporting.results import RunFiles
from textgen.reporting.tracking.wandb_results import log_results
from textgen.reporting.tracking.wandb_run import import_wandb, start_wandb_run, stop_service
from textgen.reporting.tracking.wandb_tables import SamplesTable
from textgen.terminal import shown

_EARLY_EXIT = 10  # seconds that a program that ends before ``finish`` waits for W&B


class WandbMirror:
    """A W&B run that mirrors the run directory, or does nothing if there is no W&B run.

    All calls to W&B, also the one that starts the run, happen on a thread of their own, so that a slow server delays
    nothing. The first error is reported and disables the mirror; what W&B then lacks is still in the run directory, and
    ``textgen replay`` uploads it.

    Args:
        start: starts the ``wandb`` run and returns it, or None if there is to be none; called on the thread.
        run_dir: the run directory, for messages.
        echo: prints a message.
        timeout: the most seconds that :meth:`finish` waits.

    Attributes:
        problem: why W&B does not have everything, if something went wrong; complete after :meth:`finish`.
    """

    def __init__(
        self, start: Callable[[], Any], run_dir: Path, echo: Callable[[str], None], *, timeout: float = 120
    ) -> None:
        self.problem: str | None = None
        self._start, self._run_dir, self._echo, self._timeout = start, run_dir, echo, timeout
        self._run: Any = None
        self._is_over = False  # nothing more is sent: the run ended, failed, or was given up
        self._is_ended = False
        self._logged_step = -1
        self._samples = SamplesTable()
        self._jobs: queue.SimpleQueue[Callable[[Any], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="wandb-mirror", daemon=True)
        self._thread.start()

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
        timeout: float = 120,
        init_timeout: float = 20,
        fallback: bool = True,
    ) -> "WandbMirror":
        """Start or resume the W&B run of a run directory. On the main process only; never raises, waits or prompts.

        ``auto`` is online if the user is logged in, otherwise offline. Online without a key, or with a server that does
        not answer within ``init_timeout`` seconds, becomes offline, with a message to ``echo``; without ``fallback`` it
        is a problem instead. :meth:`finish` waits at most ``timeout`` seconds.
        """
        init = {"dir": run_dir, "config": _shown(config), "id": run_id, "project": project, "name": shown(name)}
        import_wandb(mode)
        begin = partial(start_wandb_run, init, mode, echo, init_timeout, fallback=fallback)
        return cls(begin, run_dir, echo, timeout=timeout)

    @property
    def has_started(self) -> bool:
        """Whether the W&B run has begun, online or offline, and has not ended."""
        return self._run is not None and not self._is_over

    def log(self, row: Mapping[str, Any]) -> None:
        """Mirror a row of ``metrics.jsonl``, unless W&B already has it."""
        self._jobs.put(lambda run: self._log(run, row))

    def log_samples(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Mirror rows of ``samples.jsonl``, oldest first, except those that W&B already has."""
        if rows:
            self._jobs.put(lambda run: self._samples.log(run, rows))

    def finish(self, run_dir: Path) -> None:
        """Mirror the results and end the W&B run, waiting at most ``timeout`` seconds."""
        self._jobs.put(lambda run: log_results(run, RunFiles.read(run_dir)))
        self._end(0, self._timeout)

    def _end(self, exit_code: int | None, timeout: float) -> None:
        """End the W&B run; its exit code is that of the program if None is given."""
        if self._is_ended:
            return
        self._is_ended = True
        if not self._is_over:
            self._jobs.put(lambda run: run.finish(exit_code=exit_code))
        self._jobs.put(None)
        self._thread.join(timeout)
        is_stuck = self._thread.is_alive()
        if is_stuck:
            self._give_up(f"W&B did not finish within {timeout:g} s; continuing without it")
        self._is_over = True
        if is_stuck or self.problem:
            stop_service()

    def _end_early(self) -> None:
        self._end(None, _EARLY_EXIT)

    def _give_up(self, problem: str) -> None:
        """Send nothing more, and say why, once."""
        if self._is_over:
            return
        self._is_over = True
        self.problem = problem
        self._echo(f"{problem}. {self._run_dir} has everything; `textgen replay {self._run_dir}` uploads it.")

    def _log(self, run: Any, row: Mapping[str, Any]) -> None:
        step = int(row["step"])
        if step > self._logged_step:
            self._logged_step = step
            run.log({"train/step": step} | {key: value for key, value in row.items() if key != "step"})

    def _work(self) -> None:
        """Start the run, then do the jobs, until one of them is None."""
        try:
            self._run = self._start()
        except Exception as error:
            self._give_up(f"W&B disabled for this run: {first_line(error)}")
        if self._run is None:
            self._is_over = True
            return
        # A program that exits before ``finish`` must not hang on a dead server either. This runs before W&B's own exit
        # hook, which was registered earlier and waits far longer for an unfinished run.
        atexit.register(self._end_early)
        # A resumed run reports what the server already has; an offline run starts empty and gets every row again.
        logged = self._run.summary.get("train/step") if self._run.resumed else None
        self._logged_step = int(logged) if isinstance(logged, int | float) else -1
        while (job := self._jobs.get()) is not None:
            try:
                job(self._run)
            except Exception as error:
                self._give_up(f"W&B disabled after an error: {first_line(error)}")
                with contextlib.suppress(Exception):
                    self._run.finish(exit_code=1)  # so that W&B gets what was sent before
            if self._is_over:
                return


def _shown(config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as a page of W&B may show them."""
    return {name: shown(value) if isinstance(value, str) else value for name, value in config.items()}
