"""Figures and tables of what one perplexity pass tells besides perplexity: where in the context loss falls, and how far
the model's confidence is to be believed."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from textgen.reporting.figures.curves import FAINT, MOMENT_COLOUR, STYLE, as_svg
from textgen.reporting.wording import bounds, compared, finite, interval_text, number

HARDEST_SHOWN = 12


def loss_by_position(perplexity: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Nats per token over the number of tokens read before, with 95 % intervals; None unless there are two ranges."""
    lines = _series(perplexity, "loss_by_position", "to", "nll")
    if not any(len(line) > 1 for line in lines.values()):
        return None
    with style.context(STYLE):
        figure = Figure(figsize=(6.8, 2.8), layout="constrained")
        axes = figure.subplots()
        for moment, line in lines.items():
            _line(axes, line, "nll_interval", moment)
        axes.set_xscale("log", base=2)
        ticks = sorted({point[0] for line in lines.values() for point in line})
        axes.set_xticks(ticks, [number(tick, 0) for tick in ticks])
        axes.minorticks_off()
        axes.set(xlabel="tokens read before, up to", ylabel="nll, nats per token")
        _legend(axes, lines)
        said = "; ".join(
            f"{moment} from {number(line[0][1])} to {number(line[-1][1])}" for moment, line in lines.items()
        )
        return as_svg(figure, "position", f"Nats per token by the number of tokens read before: {said}")


def reliability(perplexity: Mapping[str, Mapping[str, Any]]) -> str | None:
    """How often the likeliest token was right over how likely it was said to be (a reliability diagram)."""
    lines = _series(perplexity, "calibration", "confidence", "accuracy")
    if not lines:
        return None
    with style.context(STYLE):
        figure = Figure(figsize=(6.8, 3.6), layout="constrained")  # as wide as the others: letters of one size
        axes = figure.subplots()
        axes.plot((0, 1), (0, 1), color=FAINT, linewidth=0.8, linestyle=":")
        for moment, line in lines.items():
            _line(axes, line, "accuracy_interval", moment)
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="probability of the likeliest token", ylabel="how often it was right")
        _legend(axes, lines)
        errors = {moment: perplexity[moment].get("expected_calibration_error") for moment in lines}
        said = ", ".join(f"{moment} {number(value, 3)}" for moment, value in errors.items())
        return as_svg(figure, "reliability", f"Confidence and accuracy; expected calibration error: {said}")


def accuracy_rows(perplexity: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, list[tuple[str, str]]]]:
    """A row a moment of (value, interval): top-1 and top-5 accuracy, expected calibration error; for those measured."""
    rows = []
    for moment in compared(perplexity):
        stated = perplexity.get(moment or "", {})
        if finite(stated.get("top_1_accuracy")) is None or moment is None:
            continue
        names = ("top_1_accuracy", "top_5_accuracy", "expected_calibration_error")
        cells = [(number(stated.get(name), 3), interval_text(stated.get(f"{name}_interval"), 3)) for name in names]
        rows.append((moment, cells))
    return rows


def hardest_rows(perplexity: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The hardest tokens of the later moment, with numbers in words; the first :data:`HARDEST_SHOWN`."""
    _, moment = compared(perplexity)
    tokens = perplexity.get(moment or "", {}).get("hardest_tokens") or []
    return [
        {**token, "nll": number(token.get("nll"), 1), "sure": number(token.get("expected_probability"), 2)}
        for token in tokens[:HARDEST_SHOWN]
    ]


_Point = tuple[float, float, Mapping[str, Any]]


def _series(perplexity: Mapping[str, Mapping[str, Any]], table: str, across: str, up: str) -> dict[str, list[_Point]]:
    """Moment → (x, y, row) of every row that has both; the earlier moment first, those without rows left out."""
    series = {}
    for moment in compared(perplexity):
        rows: Sequence[Mapping[str, Any]] = perplexity.get(moment or "", {}).get(table) or []
        points = [(finite(row.get(across)), finite(row.get(up)), row) for row in rows]
        known = [(x, y, row) for x, y, row in points if x is not None and y is not None]
        if moment and known:
            series[moment] = known
    return series


def _line(axes: Axes, line: Sequence[_Point], interval: str, moment: str) -> None:
    colour = MOMENT_COLOUR.get(moment, FAINT)
    axes.plot(
        [x for x, _, _ in line], [y for _, y, _ in line], "o-", color=colour, linewidth=1.3, markersize=4, label=moment
    )
    for x, _, row in line:
        ends = bounds(row.get(interval))
        if ends:
            axes.plot((x, x), ends, color=colour, linewidth=1, alpha=0.6, solid_capstyle="round")


def _legend(axes: Axes, lines: Mapping[str, Any]) -> None:
    if len(lines) > 1:
        axes.legend(loc="best")
