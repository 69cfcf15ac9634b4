"""Charts on W&B: the figures of the report, and a bar with its interval for every strategy and metric."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from textgen.reporting.columns import METRICS, Column
from textgen.reporting.figures import curves, decoding, tokens
from textgen.reporting.figures.svg import FIRST, HUMAN_COLOR, MOMENT_COLOR, SECOND, as_svg, new_figure
from textgen.reporting.formatting import bounds, finite, number
from textgen.reporting.results import HUMAN, RunFiles, moment_pair

FIGURES: dict[str, tuple[str, Callable[[RunFiles], str | None]]] = {
    "charts/perplexity": (
        "bits per byte, with intervals",
        lambda files: curves.perplexity_bars(files.perplexity),
    ),
    "charts/loss_by_position": (
        "loss by context length",
        lambda files: tokens.loss_by_position(files.perplexity),
    ),
    "charts/calibration": ("calibration", lambda files: tokens.reliability(files.perplexity)),
    "charts/frontier": (
        "diversity and nll of every strategy; the star is the human text",
        lambda files: decoding.decoding_scatter(files.decoding),
    ),
    "charts/diagnostics": (
        "what truncation keeps",
        lambda files: decoding.diagnostics_scatter(files.diagnostics),
    ),
}
"""Names of the report's figures on W&B → title, and what draws them; one without data is not sent."""

BARS = {f"charts/{column.key}": column for column in METRICS}
"""Names of the bar charts → the metric that they show."""


def charts(files: RunFiles) -> dict[str, str]:
    """Name → HTML page of every chart that there is data for."""
    figures = {name: draw(files) for name, (_, draw) in FIGURES.items()}
    figures |= {name: strategy_bars(files.decoding, column) for name, column in BARS.items()}
    return {name: _page(svg) for name, svg in figures.items() if svg}


def strategy_bars(by_moment: Mapping[str, Sequence[Mapping[str, Any]]], column: Column) -> str | None:
    """A bar with its 95 % interval for every strategy, of the second moment; the human value is a line across.

    None if no strategy has a value.
    """
    _, moment = moment_pair(by_moment)
    rows = [row for row in by_moment[moment] if finite(row.get(column.key)) is not None] if moment else []
    machine = [row for row in rows if row.get("strategy") != HUMAN]
    if not machine:
        return None
    with new_figure(0.8 + 0.26 * len(machine)) as figure:
        axes = figure.subplots()
        for place, row in enumerate(reversed(machine)):
            axes.barh(place, row[column.key], color=MOMENT_COLOR.get(str(moment), SECOND), height=0.6, alpha=0.55)
            if ends := bounds(row.get(f"{column.key}_interval")):
                axes.plot(ends, (place, place), color=FIRST, linewidth=2, solid_capstyle="round")
        for row in rows:
            if row.get("strategy") == HUMAN:
                axes.axvline(row[column.key], color=HUMAN_COLOR, linewidth=1.2, label="human")
                axes.legend(loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0)
        axes.set_yticks(range(len(machine)), [str(row.get("strategy")) for row in reversed(machine)])
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(f"{column.title}, with 95 % intervals ({moment})")
        values = ", ".join(f"{row.get('strategy')} {number(row[column.key], column.digits)}" for row in machine)
        return as_svg(figure, f"bars-{column.key}", f"{column.title}: {values}")


def _page(svg: str) -> str:
    """An SVG element as a page of its own, on white, as W&B shows it in a frame."""
    return (
        '<!doctype html><html><head><meta charset="utf-8"><style>body{margin:8px;background:#fff;'
        f"font-family:sans-serif}}svg{{width:100%;height:auto}}</style></head><body>{svg}</body></html>"
    )
