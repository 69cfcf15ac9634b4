"""Decoding strategies: diversity and likelihood of their texts, and what their truncation keeps."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.ticker import FuncFormatter, NullFormatter

from textgen.reporting.figures.labels import place_labels
from textgen.reporting.figures.svg import (
    FAINT,
    FIRST,
    HUMAN_COLOR,
    MOMENT_COLOR,
    SECOND,
    Point,
    as_svg,
    draw_intervals,
    draw_line,
    new_figure,
    points,
)
from textgen.reporting.formatting import count, finite
from textgen.reporting.results import HUMAN, moment_pair, moments


def decoding_scatter(decoding: Mapping[str, Sequence[Mapping[str, Any]]]) -> str | None:
    """Every strategy by diversity and nll, with the human text as a star; the first moment faint. None without points.

    Variants of one family are joined in the order of their settings.
    """
    first, second = moment_pair(decoding)
    by_moment = {moment: _by_strategy(decoding[moment], "diversity", "nll") for moment in moments(decoding)}
    if second is None or not by_moment[second]:
        return None
    with new_figure(4.6) as figure:
        axes = figure.subplots()
        handles = []
        for moment, spots in by_moment.items():
            strong, color = moment == second, MOMENT_COLOR[moment]
            machine = [spot for strategy, spot in spots.items() if strategy != HUMAN]
            handles += draw_line(axes, machine, "o", color=color, markersize=6 if strong else 4, label=moment)
            for variants in families(decoding[moment]):
                line = [spots[strategy] for strategy in variants if strategy in spots]
                draw_line(axes, line, color=color, linewidth=1.4 if strong else 0.8, zorder=1.5)
            if HUMAN in spots:
                size, fill = (15, HUMAN_COLOR) if strong else (11, "none")
                draw_line(axes, [spots[HUMAN]], "*", color=HUMAN_COLOR, markersize=size, markerfacecolor=fill, zorder=4)
        for strategy, end in by_moment[second].items():
            start = by_moment[first].get(strategy) if first else None
            if start:
                draw_line(axes, [start, end], color=FIRST, linewidth=0.6, linestyle=(0, (3, 3)), zorder=1)
        axes.margins(0.12)
        axes.set(xlabel="diversity", ylabel="nll (nats per token)")
        if first:
            axes.legend(handles=handles, loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0)
        obstacles = [spot for spots in by_moment.values() for spot in spots.values()]
        place_labels(figure, axes, by_moment[second], short_names(decoding[second]), obstacles)
        return as_svg(figure, "decoding", "Diversity and nll of every decoding strategy; the star is the human text")


def diagnostics_scatter(diagnostics: Mapping[str, Sequence[Mapping[str, Any]]]) -> str | None:
    """How often each strategy keeps the human token, over how many tokens it keeps; None without points.

    Of the second moment. Up and to the left is better: fewer tokens kept, and fewer human tokens lost.
    """
    _, moment = moment_pair(diagnostics)
    rows = diagnostics[moment] if moment else []
    spots = {name: spot for name, spot in _by_strategy(rows, "kept_size", "human_coverage").items() if spot.x > 0}
    if not spots:
        return None
    with new_figure(3.8) as figure:
        axes = figure.subplots()
        axes.set_xscale("log")
        for variants in families(rows):
            line = [spots[strategy] for strategy in variants if strategy in spots]
            draw_line(axes, line, color=SECOND, linewidth=1.2, zorder=1.5)
        draw_intervals(axes, [*spots.values()], "human_coverage_interval", color=FIRST, linewidth=1.5, zorder=1)
        for name, spot in spots.items():
            draw_line(axes, [spot], "o", color=FAINT if name == "untruncated" else SECOND, markersize=6)
        axes.margins(0.12)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count(value) if value >= 1 else f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set(xlabel="tokens kept (mean over positions)", ylabel="human token kept (share of positions)")
        place_labels(figure, axes, spots, short_names(rows), [*spots.values()])
        title = "How often each strategy keeps the human token, by number of tokens kept"
        return as_svg(figure, "diagnostics", title)


def families(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """The variants of each family that has several, in the order of the settings in which they differ."""
    by_family: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row.get("family") and row.get("strategy") != HUMAN:
            by_family.setdefault(str(row["family"]), []).append(row)
    return [
        [str(row["strategy"]) for row in sorted(variants, key=_settings)]
        for variants in by_family.values()
        if len(variants) > 1
    ]


def _settings(row: Mapping[str, Any]) -> list[float]:
    return [finite(value) or 0.0 for _, value in sorted((row.get("settings") or {}).items())]


def short_names(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Strategy → the label of its point: of variants joined by a line, the first has its full name, the others only
    what is in brackets."""
    names = {str(row.get("strategy")): str(row.get("strategy")) for row in rows}
    for variants in families(rows):
        for name in variants[1:]:
            bracket = re.fullmatch(r"[^\[]+\[(.+)\]", name)
            names[name] = bracket[1] if bracket else name
    return names


def _by_strategy(rows: Sequence[Mapping[str, Any]], x: str, y: str) -> dict[str, Point]:
    return {str(point.row.get("strategy")): point for point in points(rows, x, y)}
