"""Progress of long work: a bar with rate and time left on a terminal; in a file or a pipe, a line now and then.

    with progress("tokenizing", total=size, unit="bytes") as advance:
        for batch in batches:
            ...
            advance(len(batch))

Short work shows nothing, and so does every process but the main one. Everything goes to standard error, so that a
redirected standard output has the results only. A thread shows the progress, so work that is not divided into parts,
such as loading weights, at least shows how long it has been running.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from typing import Any, Protocol

from textgen.launch_environment import is_main_process
from textgen.terminal import is_quiet, shown, styled

BAR_AFTER = 1.0
"""Seconds of work after which a terminal shows the bar."""
LINE_AFTER, LINE_EVERY = 10.0, 30.0
"""Seconds of work after which a file or a pipe gets the first line, and seconds from one line to the next."""

_REDRAW = 0.2  # seconds between two states of the bar
_screen = threading.Lock()  # held while a bar is on the terminal, which has room for one


class OnScreen(Protocol):
    """What is on the terminal between bars."""

    def show(self) -> None:
        """Draw it."""

    def hide(self) -> None:
        """Remove it, and give the terminal back as it was."""


ON_SCREEN: list[OnScreen] = []
"""What is on the terminal now: it makes room for a bar, and comes back."""


@contextmanager
def progress(work: str, *, total: float | None = None, unit: str = "") -> Iterator[Callable[[float], None]]:
    """Show the progress of the work inside the ``with`` block; yields a function that adds an amount to what is done.

    On a terminal, lines printed meanwhile appear above the bar, and the bar is gone at the end. Of two bars at the same
    time, only the first is shown.

    Args:
        work: what is being done, such as "tokenizing".
        total: amount of work, in units; None if it is unknown.
        unit: what the work is counted in, in the plural; amounts of "bytes" are shown as kB, MB, GB.
    """
    task = _Task(work, total, unit)
    if not is_main_process() or is_quiet():
        yield task.advance
        return
    finished = threading.Event()
    show = _draw_bar if is_terminal() else _print_lines
    thread = threading.Thread(target=show, args=(task, finished), daemon=True)
    thread.start()
    try:
        yield task.advance
    finally:
        finished.set()
        thread.join()


@dataclass
class _Task:
    """Some work, and how much of it is done."""

    work: str
    total: float | None
    unit: str
    done: float = 0.0
    start: float = field(default_factory=time.monotonic)

    def advance(self, amount: float) -> None:
        self.done += amount

    def status(self) -> str:
        return status(self.done, self.total, self.unit, time.monotonic() - self.start)


def is_terminal() -> bool:
    """Whether progress goes to a terminal that can redraw lines."""
    return not is_quiet() and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def _print_lines(task: _Task, finished: threading.Event) -> None:
    wait = LINE_AFTER
    while not finished.wait(wait):
        print(f"{task.work}: {task.status()}", file=sys.stderr, flush=True)
        wait = LINE_EVERY


def _draw_bar(task: _Task, finished: threading.Event) -> None:
    if finished.wait(BAR_AFTER) or not _screen.acquire(blocking=False):
        return
    panels = [*ON_SCREEN]
    try:
        from rich.progress import BarColumn, Progress, TextColumn

        for panel in panels:
            panel.hide()

        bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),  # what the texts leave
            TextColumn("{task.fields[status]}", markup=False),
            console=terminal_console(),
            auto_refresh=False,
            transient=True,
            expand=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        ON_SCREEN.append(_Bar(bar))
        with bar, lines_above(bar.console):
            drawn = bar.add_task(task.work, total=task.total, status="")
            while not finished.wait(_REDRAW):
                bar.update(drawn, completed=task.done, status=task.status(), refresh=True)
    finally:
        ON_SCREEN[:] = panels
        for panel in panels:
            panel.show()
        _screen.release()


@dataclass(frozen=True)
class _Bar:
    """A bar of rich, as something that can be removed from the terminal."""

    bar: Any

    def show(self) -> None:
        self.bar.start()

    def hide(self) -> None:
        self.bar.stop()


def leave_terminal() -> None:
    """Remove what is on the terminal, before the process ends: rich hides the cursor meanwhile."""
    while ON_SCREEN:
        ON_SCREEN.pop().hide()


def terminal_console() -> Any:
    """A console of rich for the terminal that progress is shown on."""
    from rich.console import Console

    return Console(file=styled(sys.stderr))


@contextmanager
def lines_above(console: Any) -> Iterator[None]:
    """Inside, lines for a terminal go through the bar, which moves down; those for a file must not end up there."""
    from rich.file_proxy import FileProxy

    class Lines(FileProxy):
        def write(self, text: str) -> int:
            return super().write(shown(text))

    with ExitStack() as stack:
        stack.enter_context(redirect_stderr(Lines(console, sys.stderr)))
        if sys.stdout.isatty():
            stack.enter_context(redirect_stdout(Lines(console, sys.stdout)))
        yield


def status(done: float, total: float | None, unit: str, seconds: float) -> str:
    """``1,200 of 5,000 documents · 24 % · 110 documents/s · 0:35 left``, or as much of it as is known.

    Args:
        done: amount of work done so far, in units.
        total: amount of work in all, or None.
        unit: name of the unit, in the plural.
        seconds: what it has taken so far; the rate is the average over this time.
    """
    if done <= 0 or seconds <= 0:
        return f"{duration(seconds)} so far"
    rate = done / seconds
    speed = f"{_amount(rate, unit)}/s"
    if not total:
        return f"{_amount(done, unit)} · {speed}"
    so_far = _amount(done, unit).removesuffix(f" {unit}")
    left = duration((total - done) / rate)
    return f"{so_far} of {_amount(total, unit)} · {100 * done / total:.0f} % · {speed} · {left} left"


def _amount(value: float, unit: str) -> str:
    """``5,000 documents``, ``0.25 batches``, ``12.3 MB``."""
    if unit != "bytes":
        return f"{value:,.0f} {unit}" if value >= 10 or value == int(value) else f"{value:.2g} {unit}"
    names = ("B", "kB", "MB", "GB", "TB")
    power = next((n for n in range(len(names)) if value < 1000 ** (n + 1)), len(names) - 1)
    return f"{value / 1000**power:,.{1 if power else 0}f} {names[power]}"


def duration(seconds: float) -> str:
    """``0:42``, ``12:05``, ``3:00:00``."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
