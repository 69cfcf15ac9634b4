"""Ending when told to: by SIGTERM, SIGINT, SIGHUP or SIGUSR1, or because the launcher of this process died.

At most times a process can end at once, since everything it wrote is complete on disk, and it will find that again.
Only training steps would be lost, so inside :func:`deferred` a signal is merely noted, for the loop to see in
:func:`requested`. A second signal ends the process at once in any case.

Python runs a signal's handler in the main thread, between two of its instructions, and so not while that thread waits
for another process. Here a thread of its own reads which signals came.
"""

import ctypes
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from textgen.errors import UserError
from textgen.launch_environment import started_by_launcher

SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1") if hasattr(signal, name))
RELAY_SECONDS = 1.0
"""A launcher passes a signal on that its processes got as well, as from Ctrl-C in a terminal. Below this time after the
first, a second signal is taken for that."""

T = TypeVar("T")
_End = Callable[[str], None]
_lock = threading.Lock()
_requested: list[tuple[str, float]] = []  # the reason, and when it came; at most one
_deferring: list[None] = []  # not empty inside deferred()
_end: list[_End] = []  # what ends the process; at most one
_told: list[Callable[[str], None]] = []  # to be told of a signal to this process


def listen(end: _End) -> None:
    """Catch the signals from now on, and the death of the launcher if one started this process.

    SIGHUP stays ignored if it is already, as under ``nohup``. Processes that fork from this one do not inherit any of
    this. Outside the main thread, to which Python reserves handlers, nothing is caught.

    Args:
        end: ends the process; called with the reason, such as "SIGTERM", in another thread than the main one.
    """
    if threading.current_thread() is not threading.main_thread():
        return  # no other thread may set a handler
    _end[:], _told[:] = [end], []
    _requested.clear()
    _deferring.clear()
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    threading.Thread(target=_read, args=(reader,), name="signals", daemon=True).start()
    for number in SIGNALS:
        if number != getattr(signal, "SIGHUP", None) or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _noted)
    signal.set_wakeup_fd(writer.detach(), warn_on_full_buffer=False)
    os.register_at_fork(after_in_child=_restore)
    if started_by_launcher():
        _die_with_launcher()


def on_signal(tell: Callable[[str], None]) -> None:
    """Call a function with the name of the first signal to this process, before the process ends."""
    _told.append(tell)


def deferred(steps: Iterable[T]) -> Iterator[T]:
    """The same steps; until they are over, a first signal does not end the process."""
    with _lock:
        _deferring.append(None)
    try:
        yield from steps
    finally:
        _deferring.clear()
    if _requested:
        _end[0](reason())


def requested() -> bool:
    """Whether this process was told to end."""
    return bool(_requested)


def reason() -> str:
    """What told this process to end, such as "SIGTERM"; "another process" if that was told."""
    return _requested[0][0] if _requested else "another process"


def request(why: str) -> None:
    """Tell this process to end, as a first signal would; if it was told before, do nothing."""
    with _lock:
        if _requested:
            return
        _requested.append((why, time.monotonic()))
        ends_now = not _deferring
    if ends_now and _end:
        _end[0](why)


@contextmanager
def time_limit(seconds: float, message: str) -> Iterator[None]:
    """Inside, what takes longer is a :class:`UserError`: for code that came with a model or with data.

    Only the main thread of a process can be interrupted; in others there is no limit, nor on Windows.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise UserError(message)

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _noted(number: int, frame: object) -> None:
    """The handler of a signal: nothing is left to do, but without one Python would not report the signal."""


def _read(reader: socket.socket) -> None:
    """Act on each signal that this process gets."""
    while received := reader.recv(1):
        if received[0] in SIGNALS:
            _act(signal.Signals(received[0]))


def _act(number: signal.Signals) -> None:
    if not _requested:
        if started_by_launcher():
            time.sleep(0.05)  # until the system knows a new parent, if that one's end is the cause
        why = number.name if os.getppid() == _launcher_id else "the end of its launcher"
        for tell in _told:
            tell(why)
        request(why)
    elif not _is_relayed():
        os._exit(128 + number)


def _is_relayed() -> bool:
    """Whether a signal after the first is the launcher's doing: passed on, or a consequence of its death."""
    return started_by_launcher() and (
        time.monotonic() - _requested[0][1] < RELAY_SECONDS or os.getppid() != _launcher_id
    )


_launcher_id = os.getppid()


def _die_with_launcher() -> None:
    """Get SIGTERM when the launcher ends, however it does; on Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
        if os.getppid() != _launcher_id:  # it ended before
            os.kill(os.getpid(), signal.SIGTERM)


def _restore() -> None:
    """In a process that forked from this one, handle signals as if :func:`listen` had not been called."""
    signal.set_wakeup_fd(-1)
    for number in SIGNALS:
        if signal.getsignal(number) is _noted:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
