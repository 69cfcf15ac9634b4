"""The figures of the report, as inline SVG that follows the page's colours, light or dark."""

import html
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

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
_STYLE: list[Any] = [
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
    with style.context(_STYLE):
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
        return _svg(figure, "loss", title)


def perplexity_bars(perplexity: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Bits per byte with 95 % intervals, a row a moment; None unless there are two to compare."""
    moments = [moment for moment in compared(perplexity) if moment]
    values = {moment: finite(perplexity[moment].get("bits_per_byte")) for moment in moments}
    if len(moments) < 2 or None in values.values():
        return None
    with style.context(_STYLE):
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
        return _svg(figure, "perplexity", f"Bits per byte: {said}")


def decoding_scatter(decoding: Mapping[str, Sequence[Mapping[str, Any]]]) -> str | None:
    """Every strategy by diversity and nll, the human text as a star; the earlier model faint. None without points."""
    first, second = compared(decoding)
    points = {moment: _points(decoding[moment]) for moment in (first, second) if moment}
    if second is None or not points[second]:
        return None
    with style.context(_STYLE):
        figure = Figure(figsize=(6.8, 4.6), layout="constrained")
        axes = figure.subplots()
        handles = []
        for moment, of_moment in points.items():
            strong = moment == second
            spots = [spot for strategy, spot in of_moment.items() if strategy != "human"]
            handles += axes.plot(
                *_columns(spots), "o", color=MOMENT_COLOUR[moment], markersize=6 if strong else 4, label=moment
            )
            if "human" in of_moment:
                size, fill = (15, HUMAN) if strong else (11, "none")
                axes.plot(*of_moment["human"], "*", color=HUMAN, markersize=size, markerfacecolor=fill, zorder=4)
        for strategy, end in points[second].items():
            start = points[first].get(strategy) if first else None
            if start:  # the way that a strategy went says which faint point is its own
                axes.plot(*_columns([start, end]), color=FIRST, linewidth=0.6, linestyle=(0, (3, 3)), zorder=1)
        axes.margins(0.12)
        axes.set(xlabel="diversity", ylabel="nll, nats per token")
        if first:
            axes.legend(handles=handles, loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0)
        _label(figure, axes, points[second], [spot for of in points.values() for spot in of.values()])
        return _svg(figure, "decoding", "Diversity and nll of every decoding strategy; the star is the human text")


def _label(
    figure: Figure,
    axes: Axes,
    spots: Mapping[str, tuple[float, float]],
    obstacles: Sequence[tuple[float, float]],
) -> None:
    """Write each name beside its point, at the offset where it covers the least of other names and points."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # the layout must be final before anything can be measured
    figure.set_layout_engine("none")
    taken = [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in axes.transData.transform(list(obstacles))]
    inside = axes.get_window_extent()
    pixels_per_point = figure.dpi / 72
    for strategy, spot in sorted(spots.items(), key=lambda item: item[1]):
        colour = HUMAN if strategy == "human" else INK
        text = axes.annotate(strategy, spot, (0, 0), textcoords="offset points", color=colour, fontsize=8)
        size = text.get_window_extent(canvas.get_renderer())
        here_x, here_y = axes.transData.transform(spot)
        candidates: list[tuple[float, tuple[float, float], Bbox]] = []
        for reach in (7, 13, 22):
            for x, y in ((1, 0), (-1, 0), (0, 1), (0, -1), (0.8, 0.8), (0.8, -0.8), (-0.8, 0.8), (-0.8, -0.8)):
                left = here_x + x * reach * pixels_per_point - size.width * (0 if x > 0 else 1 if x < 0 else 0.5)
                bottom = here_y + y * reach * pixels_per_point - size.height * (0 if y > 0 else 1 if y < 0 else 0.5)
                box = Bbox.from_bounds(left, bottom, size.width, size.height)
                covered = sum(_overlap(box, other) for other in taken)
                outside = box.width * box.height - _overlap(box, inside)
                candidates.append((covered + 2 * outside + reach, (x * reach, y * reach), box))
        _, (x, y), box = min(candidates, key=lambda candidate: candidate[0])
        text.xyann = (x, y)
        text.set_horizontalalignment("left" if x > 0 else "right" if x < 0 else "center")
        text.set_verticalalignment("bottom" if y > 0 else "top" if y < 0 else "center")
        taken.append(box)


def _overlap(one: Bbox, other: Bbox) -> float:
    """Area that two boxes share, in square pixels."""
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return max(width, 0.0) * max(height, 0.0)


def _series(metrics: Sequence[Mapping[str, Any]], key: str) -> tuple[list[float], list[float]]:
    """Steps and values of one column of the record, where it has a number."""
    rows = [row for row in metrics if finite(row.get(key)) is not None]
    return [row["step"] for row in rows], [row[key] for row in rows]


def _points(rows: Sequence[Mapping[str, Any]]) -> dict[str, tuple[float, float]]:
    """Strategy → (diversity, nll), for the rows that have both."""
    pairs = {str(row.get("strategy")): (finite(row.get("diversity")), finite(row.get("nll"))) for row in rows}
    return {strategy: (x, y) for strategy, (x, y) in pairs.items() if x is not None and y is not None}


def _columns(spots: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in spots], [y for _, y in spots]


def _svg(figure: Figure, name: str, title: str) -> str:
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
