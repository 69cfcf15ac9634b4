"""Shared by all figures: style and colors, points and interval bars, and the conversion to inline SVG."""

import html
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from textgen.reporting.formatting import bounds, finite
from textgen.reporting.results import MOMENT_PAIRS

# Figures are drawn in these colors, which are then replaced by the page's own; the SVG keeps them as fallbacks. They
# also differ in lightness, for readers who cannot distinguish hues.
INK, FAINT, GRID, FIRST, SECOND, HUMAN_COLOR = "#1c2330", "#5b6472", "#d5dae1", "#8b95a5", "#1f5fd0", "#c2570c"
_PAGE_COLORS = {
    INK: "--ink",
    FAINT: "--ink-soft",
    GRID: "--line",
    FIRST: "--first",
    SECOND: "--second",
    HUMAN_COLOR: "--human",
}
MOMENT_COLOR = {moment: color for pair in MOMENT_PAIRS for moment, color in zip(pair, (FIRST, SECOND), strict=True)}

# The defaults come first, so that a user's matplotlibrc changes nothing.
_STYLE: list[Any] = [
    "default",
    {
        "svg.fonttype": "none",  # text stays text, for search and screen readers
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
_WIDTH = 6.8  # inches; the same for all figures, so that their text has the same size


class Point(NamedTuple):
    """A point of a figure, and the row that it comes from."""

    x: float
    y: float
    row: Mapping[str, Any]


def points(rows: Sequence[Mapping[str, Any]], x: str, y: str) -> list[Point]:
    """A point for every row in which both columns are finite numbers."""
    found = [(finite(row.get(x)), finite(row.get(y)), row) for row in rows]
    return [Point(a, b, row) for a, b, row in found if a is not None and b is not None]


@contextmanager
def new_figure(height: float) -> Iterator[Figure]:
    """An empty figure of this height in inches; the style is in force inside the block, so convert it there."""
    with style.context(_STYLE):
        yield Figure(figsize=(_WIDTH, height), layout="constrained")


def draw_line(axes: Axes, line: Sequence[Point], fmt: str = "", **style: Any) -> list[Any]:
    """Join points, or mark them, depending on the format; returns what the legend needs."""
    format_string = [fmt] if fmt else []  # an empty one would conflict with keywords
    return axes.plot([point.x for point in line], [point.y for point in line], *format_string, **style)


def draw_intervals(axes: Axes, line: Sequence[Point], key: str, **style: Any) -> None:
    """A vertical bar at each point whose row has an interval under this key."""
    for point in line:
        ends = bounds(point.row.get(key))
        if ends:
            axes.plot((point.x, point.x), ends, **style)


def as_svg(figure: Figure, name: str, title: str) -> str:
    """The figure as an ``<svg>`` element to put into an HTML page.

    Removed is what only a standalone file needs: XML header, metadata, namespaces (which are URLs), and a style sheet
    that would apply to the whole page. All ids get the figure's name as a prefix, because a page has one id namespace.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].rstrip()
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->|<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg).replace("xlink:href", "href")
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = svg.replace('href="#', f'href="#{name}-').replace("url(#", f"url(#{name}-")
    for color, variable in _PAGE_COLORS.items():
        svg = svg.replace(color, f"var({variable}, {color})")
    svg = re.sub(r" font-family: [^;\"]*;", "", svg)
    head = f'<svg role="img" aria-labelledby="{name}-title" viewBox='
    svg = re.sub(r"<svg [^>]*?viewBox=", head, svg, count=1)
    svg = re.sub(r'(<svg [^>]*?)\swidth="[^"]*"|\sversion="1.1"(?=[^>]*>)', r"\1", svg, count=2)
    body = svg.index(">") + 1
    svg = f'{svg[:body]}<title id="{name}-title">{html.escape(title)}</title>{svg[body:]}'
    return re.sub(r"\n\s*\n", "\n", svg)
