"""A tracker as a mirror of the run directory, which cannot stop, slow down or change a run: for every library alike."""

import atexit
import contextlib
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from textgen.background import before_end
from textgen.errors import UserError, first_line
from textgen.files import read_json
from textgen.reporting.results import RunFiles

DONE = {"state": "done", "exit_code": 0}
"""The status of a run whose results are all there."""

_EARLY_EXIT = 10  # seconds that a program that ends before ``finish`` waits for a tracker


class Session(Protocol):
    """A run of a tracking library that has begun. All calls are made on the mirror's thread.

    Attributes:
        logged_step: the step of the last row that the library has from before; -1 if it has none.
        sampled_step: the same for sample texts.
    """

    logged_step: int
    sampled_step: int

    def log(self, row: Mapping[str, Any]) -> None:
        """Send a row, as :func:`textgen.reporting.tracking.rows.tracked_row` makes it."""

    def log_samples(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Send rows of ``samples.jsonl``."""

    def log_results(self, files: RunFiles) -> None:
        """Send everything that was measured."""

    def end(self, status: Mapping[str, Any]) -> str | None:
        """End the run with a status as in ``status.json``; returns what the library turned out not to have, if any."""


class Mirror:
    """A run of a tracking library that mirrors the run directory, or does nothing if there is no such run.

    All calls to the library, also the one that starts the run, happen on a thread of their own, so that a slow server
    or disk delays nothing. The first error is reported and disables the mirror; what the library then lacks is still in
    the run directory, and ``textgen replay`` sends it.

    Args:
        library: its name, for messages.
        start: starts the run and returns it, or None if there is to be none; called on the thread.
        run_dir: the run directory.
        echo: prints a message.
        timeout: the most seconds that :meth:`finish` waits.
        replay: the command that sends what is missing, for messages.
        stop: ends what the library left running, once it is given up.

    Attributes:
        problem: why the library does not have everything, if something went wrong; complete after :meth:`finish`.
    """

    def __init__(
        self,
        library: str,
        start: Callable[[], Session | None],
        run_dir: Path,
        echo: Callable[[str], None],
        *,
        timeout: float = 120,
        replay: str = "",
        stop: Callable[[], None] = lambda: None,
    ) -> None:
        self.problem: str | None = None
        self._library, self._start, self._run_dir, self._echo = library, start, run_dir, echo
        self._timeout, self._stop = timeout, stop
        self._replay = replay or f"textgen replay {run_dir}"
        self._session: Session | None = None
        self._is_over = False  # nothing more is sent: the run ended, failed, or was given up
        self._is_ended = False
        self._jobs: queue.SimpleQueue[Callable[[Session], str | None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=f"{library} mirror", daemon=True)
        self._thread.start()

    @property
    def has_started(self) -> bool:
        """Whether the run of the library has begun, and has not ended."""
        return self._session is not None and not self._is_over

    def log(self, row: Mapping[str, Any]) -> None:
        """Mirror a row, unless the library already has it."""
        self._jobs.put(lambda session: self._log(session, row))

    def log_samples(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Mirror rows of ``samples.jsonl``, oldest first, except those that the library already has."""
        if rows:
            self._jobs.put(lambda session: self._log_samples(session, rows))

    def finish(self, run_dir: Path) -> None:
        """Mirror the results and end the run of the library, waiting at most ``timeout`` seconds."""
        self._jobs.put(lambda session: session.log_results(RunFiles.read(run_dir)))
        self._end(DONE, self._timeout)

    def _end(self, status: Mapping[str, Any], timeout: float) -> None:
        if self._is_ended:
            return
        self._is_ended = True
        if not self._is_over:
            self._jobs.put(lambda session: session.end(status))
        self._jobs.put(None)
        self._thread.join(timeout)
        is_stuck = self._thread.is_alive()
        if is_stuck:
            self._give_up(f"{self._library} did not finish within {timeout:g} s; continuing without it")
        self._is_over = True
        if is_stuck or self.problem:
            self._stop()

    def _end_early(self) -> None:
        """End with the status that the program wrote before it ended, if it wrote one."""
        if not self._is_ended:
            status: dict[str, Any] = {}
            with contextlib.suppress(UserError, OSError):
                status = read_json(self._run_dir / "status.json")
            self._end({"state": "failed", "exit_code": 1} | status, _EARLY_EXIT)

    def _give_up(self, problem: str) -> None:
        """Send nothing more, and say why, once."""
        if self._is_over:
            return
        self._is_over = True
        self.problem = problem
        self._echo(f"{problem}. {self._run_dir} has everything; `{self._replay}` uploads it.")

    def _log(self, session: Session, row: Mapping[str, Any]) -> None:
        if (step := int(row["step"])) > session.logged_step:
            session.logged_step = step
            session.log(row)

    def _log_samples(self, session: Session, rows: Sequence[Mapping[str, Any]]) -> None:
        if new := [row for row in rows if row["step"] > session.sampled_step]:
            session.sampled_step = new[-1]["step"]
            session.log_samples(new)

    def _work(self) -> None:
        """Start the run, then do the jobs, until one of them is None."""
        try:
            self._session = self._start()
        except Exception as error:
            self._give_up(f"{self._library} disabled for this run: {first_line(error)}")
        session = self._session
        if session is None:
            self._is_over = True
            return
        # A program that exits before ``finish`` must not hang on a dead server either. This runs before the library's
        # own exit hook, which was registered earlier and may wait far longer for an unfinished run.
        atexit.register(self._end_early)
        before_end(self._end_early)
        while (job := self._jobs.get()) is not None:
            try:
                if problem := job(session):
                    self._give_up(problem)
            except Exception as error:
                self._give_up(f"{self._library} disabled after an error: {first_line(error)}")
                with contextlib.suppress(Exception):
                    session.end({"state": "failed", "exit_code": 1})  # so that it keeps what was sent before
            if self._is_over:
                return
