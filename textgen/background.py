"""Work in a thread, such as writing a checkpoint while training continues, that the process finishes before it ends."""

import os
import sys
import threading
from collections.abc import Callable
from typing import Any

_NAME = "textgen background work"
_before_end: list[Callable[[], None]] = []
_NICENESS = 5  # of the thread: on a busy machine, the foreground goes first


class BackgroundTask:
    """One function at a time, in a thread. Its result, or what it raised, is returned by :meth:`wait`."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._result: Any = None
        self._error: BaseException | None = None

    def start(self, work: Callable[[], Any]) -> None:
        """Call a function in a thread; wait for the previous one before."""
        assert self._thread is None, "wait first"
        self._result = self._error = None
        # No daemon: an interpreter that ends waits for it.
        self._thread = threading.Thread(target=self._run, args=(work,), name=_NAME)
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether a function was started whose result was not waited for yet."""
        return self._thread is not None

    @property
    def finished(self) -> bool:
        """Whether :meth:`wait` would return at once."""
        return self._thread is None or not self._thread.is_alive()

    def wait(self) -> Any:
        """Wait for the function and return its result; None if none was started.

        Raises:
            BaseException: what the function raised.
        """
        if self._thread is None:
            return None
        self._thread.join()
        self._thread = None
        result, error = self._result, self._error
        self._result = self._error = None
        if error is not None:
            raise error
        return result

    def _run(self, work: Callable[[], Any]) -> None:
        if sys.platform == "linux":  # where niceness is a thread's own
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + _NICENESS)
        try:
            self._result = work()
        except BaseException as error:
            self._error = error


def before_end(work: Callable[[], None]) -> None:
    """Have :func:`finish_background_work` call a function, which must not take long, after everything else."""
    _before_end.append(work)


def finish_background_work(seconds: float | None = None) -> None:
    """Wait for what is still running, before a process ends by ``os._exit``, which does not wait.

    Args:
        seconds: the longest time to wait; None: without limit.
    """
    for thread in threading.enumerate():
        if thread.name == _NAME:
            thread.join(seconds)
    while _before_end:
        _before_end.pop()()
