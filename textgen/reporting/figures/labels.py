"""Names beside the points of a scatter plot, placed where they cover each other least."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from textgen.reporting.figures.svg import HUMAN_COLOR, INK, Point
from textgen.reporting.results import HUMAN

_DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1), (0.8, 0.8), (0.8, -0.8), (-0.8, 0.8), (-0.8, -0.8))
_DISTANCES = (7, 13, 22)  # from the point, in typographic points


def place_labels(
    figure: Figure, axes: Axes, spots: Mapping[str, Point], names: Mapping[str, str], obstacles: Sequence[Point]
) -> None:
    """Write each point's name beside it, at the offset where it covers the least of other names and points.

    Args:
        figure: its layout becomes final.
        axes: where the points are.
        spots: strategy → point.
        names: strategy → text to write.
        obstacles: all points that names should not cover.
    """
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # the layout must be final before anything can be measured
    figure.set_layout_engine("none")
    centers = axes.transData.transform([(point.x, point.y) for point in obstacles])
    taken = [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in centers]
    inside = axes.get_window_extent()
    pixels_per_point = figure.dpi / 72
    for strategy, spot in sorted(spots.items(), key=lambda item: (item[1].x, item[1].y)):
        color = HUMAN_COLOR if strategy == HUMAN else INK
        at = (spot.x, spot.y)
        text = axes.annotate(names[strategy], at, (0, 0), textcoords="offset points", color=color, fontsize=8)
        size = text.get_window_extent(canvas.get_renderer())
        here_x, here_y = axes.transData.transform(at)
        candidates: list[tuple[float, tuple[float, float], Bbox]] = []
        for distance in _DISTANCES:
            for x, y in _DIRECTIONS:
                left = here_x + x * distance * pixels_per_point - size.width * (0 if x > 0 else 1 if x < 0 else 0.5)
                bottom = here_y + y * distance * pixels_per_point - size.height * (0 if y > 0 else 1 if y < 0 else 0.5)
                box = Bbox.from_bounds(left, bottom, size.width, size.height)
                covered = sum(_overlap(box, other) for other in taken)
                outside = box.width * box.height - _overlap(box, inside)
                candidates.append((covered + 2 * outside + distance, (x * distance, y * distance), box))
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
