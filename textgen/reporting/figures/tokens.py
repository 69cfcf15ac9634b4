"""Loss by context length, and calibration of token probabilities."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from textgen.reporting.figures.svg import (
    FAINT,
    MOMENT_COLOR,
    Point,
    as_svg,
    draw_intervals,
    draw_line,
    new_figure,
    points,
)
from textgen.reporting.formatting import number
from textgen.reporting.results import moments


def loss_by_position(perplexity: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Nats per token over context length, with 95 % intervals; None unless there are two ranges of it."""
    lines = _lines(perplexity, "loss_by_position", "to", "nll")
    if not any(len(line) > 1 for line in lines.values()):
        return None
    with new_figure(2.8) as figure:
        axes = figure.subplots()
        _draw(axes, lines, "nll_interval")
        axes.set_xscale("log", base=2)
        ticks = sorted({point.x for line in lines.values() for point in line})
        axes.set_xticks(ticks, [number(tick, 0) for tick in ticks])
        axes.minorticks_off()
        axes.set(xlabel="context length (tokens), up to", ylabel="nll (nats per token)")
        title = "; ".join(f"{name} from {number(line[0].y)} to {number(line[-1].y)}" for name, line in lines.items())
        return as_svg(figure, "position", f"Nats per token by context length: {title}")


def reliability(perplexity: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Reliability diagram: accuracy of the most likely token over its probability. None without measurements."""
    lines = _lines(perplexity, "calibration", "confidence", "accuracy")
    if not lines:
        return None
    with new_figure(3.6) as figure:
        axes = figure.subplots()
        axes.plot((0, 1), (0, 1), color=FAINT, linewidth=0.8, linestyle=":")
        _draw(axes, lines, "accuracy_interval")
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="probability of the most likely token", ylabel="accuracy")
        errors = {moment: perplexity[moment].get("expected_calibration_error") for moment in lines}
        title = ", ".join(f"{moment} {number(value, 3)}" for moment, value in errors.items())
        return as_svg(figure, "reliability", f"Confidence and accuracy; expected calibration error: {title}")


def _lines(perplexity: Mapping[str, Mapping[str, Any]], table: str, x: str, y: str) -> dict[str, list[Point]]:
    """Moment → points of a table in its entry, reference first; moments without points are omitted."""
    lines = {moment: points(perplexity[moment].get(table) or [], x, y) for moment in moments(perplexity)}
    return {moment: line for moment, line in lines.items() if line}


def _draw(axes: Axes, lines: Mapping[str, Sequence[Point]], interval: str) -> None:
    for moment, line in lines.items():
        color = MOMENT_COLOR[moment]
        draw_line(axes, line, "o-", color=color, linewidth=1.3, markersize=4, label=moment)
        draw_intervals(axes, line, interval, color=color, linewidth=1, alpha=0.6, solid_capstyle="round")
    if len(lines) > 1:
        axes.legend(loc="best")
