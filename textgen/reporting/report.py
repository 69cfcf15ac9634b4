"""The report: one HTML page with a run's settings, curves, results and texts; self-contained, no network needed."""

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from textgen.files import write_bytes
from textgen.printable import printable
from textgen.reporting.columns import ACCURACIES, DIAGNOSTICS, PERPLEXITIES, shown_metrics
from textgen.reporting.figures import curves, decoding, tokens
from textgen.reporting.rendering import render_template
from textgen.reporting.results import RunFiles, moments
from textgen.reporting.tables import balance, metrics
from textgen.reporting.tables.texts import continuations_by_strategy, samples_by_step
from textgen.reporting.wording import convention, excess_over_entropy, facts, headline, recommendation, title


def write_report(run_dir: Path) -> Path:
    """Write ``report.html`` from the other files of a run directory, and return its path.

    The page states what was not measured. Everything that a user or a model wrote is escaped.

    Raises:
        UserError: a file of the run is damaged.
    """
    run = RunFiles.read(run_dir)
    path = run_dir / "report.html"
    write_bytes(path, render(run).encode("utf-8", "replace"))
    return path


def render(run: RunFiles) -> str:
    """The HTML of the page."""
    prompts, prompts_note = continuations_by_strategy(run)
    script = render_template("report.js.j2", {})
    columns = shown_metrics(run.decoding)
    return render_template(
        "report.html.j2",
        {"printable": printable, "setting": metrics.setting_text},
        run=run,
        script=Markup(script),  # ours, and the only one that the page's policy lets a browser run
        script_hash=f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}",
        title=title(run),
        headline=headline(run),
        incomplete=_incomplete(run),
        facts=facts(run),
        loss_figure=_markup(curves.loss_curve(run.metrics)),
        convention=convention(run),
        perplexity_columns=[*(column.title for column in PERPLEXITIES), "tokens", "words", "bytes"],
        perplexity_rows=metrics.perplexity_rows_with_sizes(run.perplexity),
        excess_over_entropy=excess_over_entropy(run.perplexity),
        perplexity_figure=_markup(curves.perplexity_bars(run.perplexity)),
        accuracy_columns=[column.title for column in ACCURACIES],
        accuracy_rows=metrics.accuracy_rows(run.perplexity),
        position_figure=_markup(tokens.loss_by_position(run.perplexity)),
        reliability_figure=_markup(tokens.reliability(run.perplexity)),
        hardest=metrics.hardest_rows(run.perplexity),
        balance_columns=balance.balance_columns(run.perplexity),
        balance_rows=balance.balance_rows(run.perplexity),
        contamination=balance.contamination_finding(run.contamination),
        near_duplicates=balance.near_duplicates_finding(run.contamination),
        contaminated=balance.contaminated_rows(run.contamination),
        mask=balance.mask_findings(run.mask),
        metrics=columns,
        decoding_tables=[
            metrics.decoding_table(moment, run.decoding[moment], columns) for moment in _latest_first(run.decoding)
        ],
        recommendation=recommendation(run.recommendation),
        decoding_figure=_markup(decoding.decoding_scatter(run.decoding)),
        diagnostics_columns=[column.title for column in DIAGNOSTICS],
        diagnostics_tables=[
            (moment, metrics.diagnostics_rows(run.diagnostics[moment])) for moment in _latest_first(run.diagnostics)
        ],
        diagnostics_figure=_markup(decoding.diagnostics_scatter(run.diagnostics)),
        samples=samples_by_step(run.samples()),
        prompts=prompts,
        prompts_note=prompts_note,
        command=str(run.environment.get("command") or f"python recipes/finetune.py --config {run.path}/config.yaml"),
        versions=", ".join(f"{name} {version}" for name, version in (run.environment.get("versions") or {}).items()),
    )


def _latest_first(by_moment: Mapping[str, Any]) -> list[str]:
    return moments(by_moment)[::-1]


def _incomplete(run: RunFiles) -> str:
    """A warning if the run did not finish."""
    if run.status.get("state") != "failed":
        return ""
    message = run.status.get("message") or ""
    return f"This run is not complete: failed at step {run.status.get('step')}. {message}"


def _markup(svg: str | None) -> Markup | None:
    """Our own SVG, which must not be escaped."""
    return None if svg is None else Markup(svg)
