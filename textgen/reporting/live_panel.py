"""A panel at the bottom of the terminal while a model trains: how far it is, how it is doing, what it last wrote."""

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from itertools import pairwise
from typing import Any

from textgen.disk import in_words
from textgen.progress import ON_SCREEN, duration, is_terminal, lines_above, terminal_console
from textgen.reporting.formatting import MISSING, count, number

_REDRAW = 0.2  # seconds between two states of the panel, at least
_BARS = "▁▂▃▄▅▆▇█"
_LOSSES = 4096  # that the curve is drawn from; of more, every second one is dropped


def sparkline(values: Sequence[float], width: int) -> str:
    """A curve of at most ``width`` characters, from the lowest (▁) to the highest value (█); means of equal parts."""
    if not values:
        return ""
    parts = min(width, len(values))
    edges = [len(values) * n // parts for n in range(parts + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, high = min(means), max(means)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BARS[round((mean - low) * scale)] for mean in means)


class LivePanel:
    """The panel; it appears with :meth:`show`, moves down as lines are printed, and is gone after :meth:`close`.

    Args:
        total_steps: number of steps of the run.
    """

    def __init__(self, total_steps: int) -> None:
        self.total_steps = total_steps
        self._step = 0
        self._losses: list[float] = []
        self._every, self._skipped = 1, 0  # of the losses, every so many are kept
        self._figures: dict[str, str] = {}
        self._evaluation = self._sample = ""
        self._drawn = 0.0
        self._live: Any = None
        self._stack = ExitStack()

    @staticmethod
    def start(total_steps: int) -> "LivePanel | None":
        """Show a panel on the terminal; None if there is no terminal."""
        if not is_terminal() or not total_steps:
            return None
        panel = LivePanel(total_steps)
        ON_SCREEN.append(panel)
        panel.show()
        return panel

    def show(self) -> None:
        """Draw the panel below everything that is printed from now on."""
        if self._live is not None:
            return
        from rich.live import Live

        console = terminal_console()
        self._live = Live(
            self._render(), console=console, auto_refresh=False, transient=True,
            redirect_stdout=False, redirect_stderr=False,
        )  # fmt: skip
        self._stack.enter_context(self._live)
        self._stack.enter_context(lines_above(console))

    def hide(self) -> None:
        """Give the terminal back, such as to a progress bar."""
        self._live = None
        self._stack.close()

    def close(self) -> None:
        """Remove the panel for good."""
        self.hide()
        if self in ON_SCREEN:
            ON_SCREEN.remove(self)

    def add_step(self, step: int, loss: float) -> None:
        """A step was trained; ``loss`` is its mean nll in nats."""
        self._step = step
        self._skipped += 1
        if self._skipped >= self._every:
            self._losses.append(loss)
            self._skipped = 0
        if len(self._losses) > _LOSSES:
            self._losses, self._every = self._losses[::2], 2 * self._every
        self._figures["loss"] = number(loss, 3)
        self._draw()

    def log(self, row: Mapping[str, Any], *, speed: float | None, left: float | None, memory: int) -> None:
        """A row of metrics was logged, at so many tokens per second, with so many seconds left, in so many bytes."""
        self._step = row["step"]
        for key, name, form in (("train/learning_rate", "lr", ".1e"), ("train/grad_norm", "grad", ".2f")):
            if number(row.get(key)) != MISSING:
                self._figures[name] = f"{row[key]:{form}}"
        if number(row.get("eval/loss")) != MISSING:
            self._evaluation = f"evaluation: loss {number(row['eval/loss'], 3)}"
            if number(row.get("eval/bits_per_byte")) != MISSING:
                self._evaluation += f", {number(row['eval/bits_per_byte'], 3)} bits per byte"
            self._evaluation += f" at step {row['step']}"
        if speed is not None:
            self._figures["speed"] = f"{count(speed)} tok/s"
        if left is not None:
            self._figures["left"] = f"{duration(left)} left"
        self._figures["memory"] = in_words(memory)
        self._draw(now=True)

    def show_sample(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Texts were sampled: show the last one."""
        if rows:
            self._sample = f"{rows[-1]['strategy']}: {' '.join(str(rows[-1]['text']).split())}"
            self._draw(now=True)

    def _draw(self, *, now: bool = False) -> None:
        if self._live is not None and (now or time.monotonic() >= self._drawn + _REDRAW):
            self._drawn = time.monotonic()
            self._live.update(self._render(), refresh=True)

    def _render(self) -> Any:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        from textgen.terminal import shown

        first = Table.grid(expand=True, padding=(0, 1, 0, 0))
        first.add_column(no_wrap=True)
        first.add_column(ratio=1)
        first.add_column(no_wrap=True)
        left = self._figures.get("left", "")
        first.add_row(
            f"step {self._step:,}/{self.total_steps:,}", ProgressBar(total=self.total_steps, completed=self._step), left
        )
        figures = [f"{name} {self._figures[name]}" for name in ("lr", "grad") if name in self._figures]
        figures += [self._figures[name] for name in ("speed", "memory") if name in self._figures]
        loss = f"loss {self._figures['loss']} {sparkline(self._losses, 14)}" if "loss" in self._figures else ""
        lines = [" · ".join([*([loss] if loss else []), *figures]), self._evaluation, self._sample]
        texts = [Text(shown(line), no_wrap=True, overflow="ellipsis") for line in lines if line]
        return Group(first, *texts)
