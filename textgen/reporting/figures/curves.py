"""The figures of the report, as inline SVG that follows the page's colours, light or dark."""

import html
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib import style
from matplotlib.figure import Figure

from textgen.reporting.wording import bounds, compared, finite, number

# Drawn in these colours, which the page then replaces by its own: the SVG has them only as fallbacks. They differ from
# each other in lightness too, for those who see no hue.
INK, FAINT, GRID, FIRST, SECOND, HUMAN = "#1c2330", "#5b6472", "#d5dae1", "#8b95a5", "#1f5fd0", "#c2570c"
_PAGE_COLOURS = {
    INK: "--ink",
    FAINT: "--ink-soft",
    GRID: "--line",
    FIRST: "--first",
    SECOND: "--second",
    HUMAN: "--human",
}
# The defaults come first, so that a matplotlibrc of the user's changes nothing.
STYLE: list[Any] = [
    "default",
    {
        "svg.fonttype": "none",  # text stays text: readable to search and to screen readers
        "svg.hashsalt": "textgen",  # the same data gives the same bytes
        "font.size": 9,
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": GRID,
        "axes.labelsize": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": GRID,
        "grid.linewidth": 0.5,
        "axes.axisbelow": True,
        "axes.facecolor": "none",
        "xtick.color": FAINT,
        "ytick.color": FAINT,
        "legend.frameon": False,
        "text.parse_math": False,
    },
]

MOMENT_COLOUR = {"before": FIRST, "baseline": FIRST, "after": SECOND, "model": SECOND}


def loss_curve(metrics: Sequence[Mapping[str, Any]]) -> str | None:
    """Training loss (nats per token) and evaluation loss over steps, the learning rate below; None without a loss."""
    train, evaluated = _series(metrics, "train/loss"), _series(metrics, "eval/loss")
    rate = _series(metrics, "train/learning_rate")
    if not train[0] and not evaluated[0]:
        return None
    with style.context(STYLE):
        figure = Figure(figsize=(6.8, 4.0), layout="constrained")
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        dot = "o" if len(train[0]) < 3 else None  # a line through one point shows nothing
        top.plot(*train, color=SECOND, linewidth=1.3, marker=dot, markersize=3, label="training")
        if evaluated[0]:
            top.plot(*evaluated, color=HUMAN, linewidth=1.3, marker="o", markersize=3.5, label="evaluation")
            top.legend(loc="upper right")
        top.set_ylabel("loss, nats per token")
        bottom.plot(*rate, color=FAINT, linewidth=1.2, marker=dot, markersize=3)
        bottom.set(ylabel="learning rate", xlabel="step")
        bottom.set_ylim(bottom=0)
        bottom.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3), useMathText=False)
        bottom.xaxis.get_major_locator().set_params(integer=True)
        last = train if train[0] else evaluated
        title = f"Loss over {len(last[0])} logged steps, ending at {number(last[1][-1], 3)}; learning rate below"
        return as_svg(figure, "loss", title)


def perplexity_bars(perplexity: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Bits per byte with 95 % intervals, a row a moment; None unless there are two to compare."""
    moments = [moment for moment in compared(perplexity) if moment]
    values = {moment: finite(perplexity[moment].get("bits_per_byte")) for moment in moments}
    if len(moments) < 2 or None in values.values():
        return None
    with style.context(STYLE):
        figure = Figure(figsize=(6.8, 1.45), layout="constrained")
        axes = figure.subplots()
        for row, moment in enumerate(reversed(moments)):
            value, colour = float(values[moment] or 0), MOMENT_COLOUR[moment]
            ends = bounds(perplexity[moment].get("bits_per_byte_interval"))
            if ends:
                axes.plot(ends, (row, row), color=colour, linewidth=2.5, solid_capstyle="round")
            axes.plot(value, row, "o", color=colour, markersize=7)
            axes.annotate(number(value, 3), (value, row), (0, 7), textcoords="offset points", ha="center")
        axes.set_yticks(range(len(moments)), list(reversed(moments)))
        axes.set_ylim(-0.5, len(moments) - 0.3)
        axes.grid(axis="y", visible=False)
        axes.margins(x=0.15)
        axes.set_xlabel("bits per byte, less is better; the line is the 95 % interval")
        said = ", ".join(f"{moment} {number(values[moment], 3)}" for moment in moments)
        return as_svg(figure, "perplexity", f"Bits per byte: {said}")


def _series(metrics: Sequence[Mapping[str, Any]], key: str) -> tuple[list[float], list[float]]:
    """Steps and values of one column of the record, where it has a number."""
    rows = [row for row in metrics if finite(row.get(key)) is not None]
    return [row["step"] for row in rows], [row[key] for row in rows]


def as_svg(figure: Figure, name: str, title: str) -> str:
    """The figure as an ``<svg>`` element for the middle of an HTML page.

    What only a file of its own needs is taken off: the XML head, metadata and namespaces, which are URLs, and a style
    sheet that would apply to the whole page. Every id gets the figure's name in front: ids of a page share one space.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].rstrip()
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->|<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg).replace("xlink:href", "href")
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = svg.replace('href="#', f'href="#{name}-').replace("url(#", f"url(#{name}-")
    for colour, variable in _PAGE_COLOURS.items():
        svg = svg.replace(colour, f"var({variable}, {colour})")
    svg = re.sub(r" font-family: [^;\"]*;", "", svg)
    head = f'<svg role="img" aria-labelledby="{name}-title" viewBox='
    svg = re.sub(r"<svg [^>]*?viewBox=", head, svg, count=1)
    svg = re.sub(r'(<svg [^>]*?)\swidth="[^"]*"|\sversion="1.1"(?=[^>]*>)', r"\1", svg, count=2)
    body = svg.index(">") + 1
    svg = f'{svg[:body]}<title id="{name}-title">{html.escape(title)}</title>{svg[body:]}'
    return re.sub(r"\n\s*\n", "\n", svg)
