"""The decoding part of the report in pictures: quality against diversity, and what truncation keeps."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter
from matplotlib.transforms import Bbox

from textgen.reporting.figures.curves import FAINT, FIRST, HUMAN, INK, MOMENT_COLOUR, STYLE, as_svg
from textgen.reporting.wording import bounds, compared, count, finite

Spot = tuple[float, float]


def decoding_scatter(decoding: Mapping[str, Sequence[Mapping[str, Any]]]) -> str | None:
    """Every strategy by diversity and nll, the human text as a star; the earlier model faint. None without points.

    The variants of one family are joined in the order of their settings: the frontier of what it can reach.
    """
    first, second = compared(decoding)
    points = {moment: _points(decoding[moment], "diversity", "nll") for moment in (first, second) if moment}
    if second is None or not points[second]:
        return None
    with style.context(STYLE):
        figure = Figure(figsize=(6.8, 4.6), layout="constrained")
        axes = figure.subplots()
        handles = []
        for moment, of_moment in points.items():
            strong = moment == second
            spots = [spot for strategy, spot in of_moment.items() if strategy != "human"]
            handles += axes.plot(
                *_columns(spots), "o", color=MOMENT_COLOUR[moment], markersize=6 if strong else 4, label=moment
            )
            for variants in families(decoding[moment]):
                line = [of_moment[strategy] for strategy in variants if strategy in of_moment]
                axes.plot(*_columns(line), color=MOMENT_COLOUR[moment], linewidth=1.4 if strong else 0.8, zorder=1.5)
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
        names = short_names(decoding[second])
        _label(figure, axes, points[second], names, [spot for of in points.values() for spot in of.values()])
        return as_svg(figure, "decoding", "Diversity and nll of every decoding strategy; the star is the human text")


def diagnostics_scatter(diagnostics: Mapping[str, Sequence[Mapping[str, Any]]]) -> str | None:
    """How often each strategy keeps the human's token, over how many tokens it keeps; None without points.

    Of the later moment. Up and to the left is better: to lose fewer of the human's tokens by keeping fewer in all.
    """
    _, moment = compared(diagnostics)
    rows = diagnostics[moment] if moment else []
    points = {name: spot for name, spot in _points(rows, "kept_size", "human_coverage").items() if spot[0] > 0}
    if not points:
        return None
    with style.context(STYLE):
        figure = Figure(figsize=(6.8, 3.8), layout="constrained")
        axes = figure.subplots()
        axes.set_xscale("log")
        for variants in families(rows):
            line = [points[strategy] for strategy in variants if strategy in points]
            axes.plot(*_columns(line), color=MOMENT_COLOUR["after"], linewidth=1.2, zorder=1.5)
        for row in rows:
            name = str(row.get("strategy"))
            if name not in points:
                continue
            ends = bounds(row.get("human_coverage_interval"))
            if ends:
                axes.plot([points[name][0]] * 2, ends, color=FIRST, linewidth=1.5, zorder=1)
            colour = FAINT if name == "untruncated" else MOMENT_COLOUR["after"]
            axes.plot(*points[name], "o", color=colour, markersize=6)
        axes.margins(0.12)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count(value) if value >= 1 else f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set(xlabel="tokens kept, mean over positions", ylabel="human’s token kept, share of positions")
        _label(figure, axes, points, short_names(rows), list(points.values()))
        return as_svg(figure, "diagnostics", "How often each strategy keeps the human’s token, over how many it keeps")


def families(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Names of the variants of each family that has several, in the order of the settings in which they differ."""
    by_family: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row.get("family") and row.get("strategy") != "human":
            by_family.setdefault(str(row["family"]), []).append(row)
    return [
        [str(row["strategy"]) for row in sorted(variants, key=_settings)]
        for variants in by_family.values()
        if len(variants) > 1
    ]


def _settings(row: Mapping[str, Any]) -> list[float]:
    return [finite(value) or 0.0 for _, value in sorted((row.get("settings") or {}).items())]


def short_names(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """What is written beside a point: of a family on one line, the whole name once, and then what is in brackets."""
    names = {str(row.get("strategy")): str(row.get("strategy")) for row in rows}
    for variants in families(rows):
        for name in variants[1:]:
            bracket = re.fullmatch(r"[^\[]+\[(.+)\]", name)
            names[name] = bracket[1] if bracket else name
    return names


def _label(
    figure: Figure,
    axes: Axes,
    spots: Mapping[str, Spot],
    names: Mapping[str, str],
    obstacles: Sequence[Spot],
) -> None:
    """Write each point's name beside it, at the offset where it covers the least of other names and points."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # the layout must be final before anything can be measured
    figure.set_layout_engine("none")
    taken = [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in axes.transData.transform(list(obstacles))]
    inside = axes.get_window_extent()
    pixels_per_point = figure.dpi / 72
    for strategy, spot in sorted(spots.items(), key=lambda item: item[1]):
        colour = HUMAN if strategy == "human" else INK
        text = axes.annotate(names[strategy], spot, (0, 0), textcoords="offset points", color=colour, fontsize=8)
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


def _points(rows: Sequence[Mapping[str, Any]], across: str, up: str) -> dict[str, Spot]:
    """Strategy → its place by two columns, for the rows that have both."""
    pairs = {str(row.get("strategy")): (finite(row.get(across)), finite(row.get(up))) for row in rows}
    return {strategy: (x, y) for strategy, (x, y) in pairs.items() if x is not None and y is not None}


def _columns(spots: Sequence[Spot]) -> tuple[list[float], list[float]]:
    return [x for x, _ in spots], [y for _, y in spots]
