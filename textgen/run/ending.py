"""How a process of a recipe ends: its exit code, and what the main process prints and writes to ``status.json``.

Whatever a process computed is on disk by then, so it leaves at once, without the interpreter's own way out. That way
frees the process group, waits for gloo's threads, and those wait for the interpreter's lock to free their tensors: now
and then, a run that was done would hang.
"""

import importlib
import os
import sys
import threading
import time
import traceback
from typing import NoReturn

from textgen import signals
from textgen.background import finish_background_work
from textgen.errors import Diverged, Preempted, UserError
from textgen.launch_environment import is_main_process, world_size
from textgen.progress import leave_terminal
from textgen.run.directory import RunDirectory
from textgen.run.peers import FAILED, STOP, News, Peers

HEAD_START = 5.0
"""Seconds that the main process gets to report before the others exit: a launcher kills all once one has ended."""
_BACKGROUND_SECONDS = 5.0  # that a checkpoint gets to be written, if one is under way


class Ending:
    """The end of this process.

    Attributes:
        directory: the run directory, once it is known.
        peers: the other processes, once this one is in touch with them.
    """

    def __init__(self) -> None:
        self.directory: RunDirectory | None = None
        self.peers: Peers | None = None
        self._once = threading.Lock()

    def listen(self) -> None:
        """From now on, end as documented when a signal comes."""
        signals.listen(self._stop_now)
        signals.on_signal(self._tell_of_signal)

    def meet(self, peers: Peers) -> None:
        """Watch the other processes from now on, and be watched."""
        self.peers = peers
        peers.start()

    def on_news(self, news: News) -> None:
        """Act on what another process tells."""
        if news.kind == STOP:
            signals.request(news.message)
        else:
            self._begin()
            self._report(self._reporter(news), "failed", news.exit_code, news.message)
            _leave(news.exit_code)

    def done(self) -> None:
        """The recipe ended as it should."""
        if self._in_group():
            self._begin()
            if self.peers:
                self.peers.leave()
            _leave(0)

    def user_error(self, error: UserError | Diverged) -> NoReturn:
        """End with an error that all processes have alike; if only this one has it, the others are told."""
        self._begin()
        main = is_main_process()
        self._report(main, "failed", error.exit_code, str(error))
        if not main:
            self._give_main_a_head_start()
        if self.peers:
            message = str(error) if main else f"on rank {self.peers.rank}: {error}"
            self.peers.tell(News(FAILED, self.peers.rank, message, error.exit_code, reported=main))
        if not main:
            self._give_main_a_head_start()
        if not self._in_group():
            sys.stdout.flush()
            sys.exit(error.exit_code)
        _leave(error.exit_code)

    def preempted(self, error: Preempted) -> NoReturn:
        """End because this process may, after a signal to any of them."""
        self._begin()
        if not signals.requested() and self.peers and (news := self.peers.first_news()):
            error = Preempted(news.message, error.saved)  # the signal that another process got
        self._leave_preempted(error)

    def bug(self, error: Exception) -> NoReturn:
        """End with an error that nobody expected: this process's own, or the consequence of another's end.

        Raises:
            Exception: the error, if there are no other processes.
        """
        if self.peers is None:
            if self.directory is not None and self.directory.created:
                self._record("failed", 1, _describe(error))
            raise error
        self._begin()
        self._end_if_lost()
        if gone := self.peers.store_gone():
            self._end_without_main(gone)
        mine = News(FAILED, self.peers.rank, f"rank {self.peers.rank}: {_describe(error)}", 1, reported=True)
        news = self.peers.tell(mine)
        if news.kind == STOP or (news == mine and signals.requested()):
            self._leave_preempted(Preempted(signals.reason() if signals.requested() else news.message))
        if news == mine:
            traceback.print_exception(error)
            self._record("failed", 1, news.message)
            self.peers.leave()
        else:
            self._report(self._reporter(news), "failed", news.exit_code, news.message)
        _leave(1)

    def _stop_now(self, reason: str) -> None:
        """End because of a signal, where nothing would be lost; called in a thread."""
        self._begin()
        # Of several processes that have not met yet, some would wait for one that left as if all was well.
        together = self.peers is not None or world_size() == 1
        if together and self.directory is not None and self.directory.is_complete():
            _leave(0)
        # A launcher also sends SIGTERM when another process has died or failed.
        self._end_if_lost()
        news = self.peers.first_news() if self.peers else None
        if news is not None and news.kind == FAILED:
            self._report(self._reporter(news), "failed", news.exit_code, news.message)
            _leave(news.exit_code)
        self._leave_preempted(Preempted(reason))

    def _leave_preempted(self, error: Preempted) -> NoReturn:
        self._report(is_main_process(), "preempted", error.exit_code, str(error), prefix="", step=error.saved)
        if not is_main_process():
            self._give_main_a_head_start()
        _leave(error.exit_code)

    def _tell_of_signal(self, name: str) -> None:
        if self.peers:
            self.peers.tell(News(STOP, self.peers.rank, name, Preempted.exit_code))

    def _end_if_lost(self) -> None:
        """If another process died, say so and end. One process looks for all, and another one for that one."""
        if self.peers is None:
            return
        if self.peers.rank > 1 or (lost := self.peers.lost(None if self.peers.rank == 0 else [0])) is None:
            return
        self.peers.tell(News(FAILED, 1 - self.peers.rank, lost, 1))
        self._report(True, "failed", 1, lost)
        _leave(1)

    def _end_without_main(self, message: str) -> NoReturn:
        """End because the process that hosts the store is gone: the main one, unless its launcher does."""
        assert self.peers is not None
        status = self.directory.status() if self.directory is not None else {}
        if status.get("state") != "running" and self.peers.is_main(status):
            _leave(status["exit_code"])  # the main process has said how it ended
        self._report(self.peers.rank == 1, "failed", 1, message)
        _leave(1)

    def _reporter(self, news: News) -> bool:
        """Whether this process is to report a failure: the main one, unless that one failed, or it is done."""
        assert self.peers is not None
        return not news.reported and self.peers.rank == (0 if news.rank else 1)

    def _report(
        self,
        reports: bool,
        state: str,
        exit_code: int,
        message: str,
        *,
        prefix: str = "error: ",
        step: int | None = None,
    ) -> None:
        leave_terminal()
        if reports:
            print(f"{prefix}{message}", file=sys.stderr, flush=True)
            self._record(state, exit_code, message, step)
        if self.peers:
            self.peers.leave()

    def _record(self, state: str, exit_code: int, message: str, step: int | None = None) -> None:
        if self.directory is not None:
            self.directory.record_end(state, exit_code, message, step=step)

    def _give_main_a_head_start(self) -> None:
        deadline = time.monotonic() + HEAD_START
        told = signals.requested()
        while time.monotonic() < deadline and not (self.peers and self.peers.has_left(0)):
            if signals.requested() and not told:
                return  # by the launcher, since the main process has ended
            time.sleep(0.1)

    def _begin(self) -> None:
        """One thread ends the process; another that tries waits for it."""
        self._once.acquire()

    def _in_group(self) -> bool:
        if "torch.distributed" not in sys.modules:
            return False
        distributed = importlib.import_module("torch.distributed")
        return bool(distributed.is_available() and distributed.is_initialized())


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _leave(code: int) -> NoReturn:
    leave_terminal()
    finish_background_work(_BACKGROUND_SECONDS)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


_this_process: list[Ending] = []


def start_ending() -> Ending:
    """A recipe starts: the end of this process, from now on."""
    _this_process[:] = [Ending()]
    return _this_process[0]


def this_process() -> Ending | None:
    """The end of this process; None if it does not run a recipe."""
    return _this_process[0] if _this_process else None
