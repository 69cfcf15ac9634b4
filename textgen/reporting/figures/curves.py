"""Loss over training steps, and bits per byte with intervals."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter

from textgen.reporting.figures.svg import (
    FAINT,
    HUMAN_COLOR,
    MOMENT_COLOR,
    SECOND,
    Point,
    as_svg,
    draw_line,
    new_figure,
    points,
)
from textgen.reporting.formatting import bounds, finite, number
from textgen.reporting.results import moments


def loss_curve(metrics: Sequence[Mapping[str, Any]]) -> str | None:
    """Training and evaluation loss (nats per token) over steps, learning rate below; None if there is no loss."""
    train, evaluated = points(metrics, "step", "train/loss"), points(metrics, "step", "eval/loss")
    if not train and not evaluated:
        return None
    with new_figure(4.0) as figure:
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        dot = "o" if len(train) < 3 else None  # a line through one point is invisible
        draw_line(top, train, color=SECOND, linewidth=1.3, marker=dot, markersize=3, label="training")
        if evaluated:
            draw_line(top, evaluated, color=HUMAN_COLOR, linewidth=1.3, marker="o", markersize=3.5, label="evaluation")
            top.legend(loc="upper right")
        top.set_ylabel("loss (nats per token)")
        learning_rates = points(metrics, "step", "train/learning_rate")
        draw_line(bottom, learning_rates, color=FAINT, linewidth=1.2, marker=dot, markersize=3)
        bottom.set(ylabel="learning rate", xlabel="step")
        bottom.set_ylim(bottom=0)
        _add_tokens_axis(top, points(metrics, "step", "train/tokens"))
        bottom.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3), useMathText=False)
        bottom.xaxis.get_major_locator().set_params(integer=True)
        last = train or evaluated
        title = f"Loss over {len(last)} logged steps, final value {number(last[-1].y, 3)}; learning rate below"
        return as_svg(figure, "loss", title)


def _add_tokens_axis(axes: Axes, seen: Sequence[Point]) -> None:
    """Above the steps, the number of target tokens trained on by then."""
    if len({point.y for point in seen}) < 2:
        return
    last = seen[-1]  # and beyond it at the same rate, since the axis has a margin
    steps = [0.0, *(point.x for point in seen), 2 * last.x]
    tokens = [0.0, *(point.y for point in seen), 2 * last.y]

    def tokens_at(step: Any) -> Any:
        return np.interp(step, steps, tokens)

    def step_of(number: Any) -> Any:
        return np.interp(number, tokens, steps)

    top = axes.secondary_xaxis("top", functions=(tokens_at, step_of))
    top.set_xlabel("tokens", color=FAINT)
    top.spines["top"].set_visible(False)
    top.xaxis.set_major_formatter(EngFormatter(sep=""))


def perplexity_bars(perplexity: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Bits per byte with 95 % intervals, one row per moment; None unless there are two to compare."""
    shown = moments(perplexity)
    values = {moment: finite(perplexity[moment].get("bits_per_byte")) for moment in shown}
    if len(shown) < 2 or None in values.values():
        return None
    with new_figure(1.45) as figure:
        axes = figure.subplots()
        for row, moment in enumerate(reversed(shown)):
            value, color = float(values[moment] or 0), MOMENT_COLOR[moment]
            ends = bounds(perplexity[moment].get("bits_per_byte_interval"))
            if ends:
                axes.plot(ends, (row, row), color=color, linewidth=2.5, solid_capstyle="round")
            axes.plot(value, row, "o", color=color, markersize=7)
            axes.annotate(number(value, 3), (value, row), (0, 7), textcoords="offset points", ha="center")
        axes.set_yticks(range(len(shown)), list(reversed(shown)))
        axes.set_ylim(-0.5, len(shown) - 0.3)
        axes.grid(axis="y", visible=False)
        axes.margins(x=0.15)
        axes.set_xlabel("bits per byte (lower is better), with 95 % intervals")
        title = ", ".join(f"{moment} {number(values[moment], 3)}" for moment in shown)
        return as_svg(figure, "perplexity", f"Bits per byte: {title}")
