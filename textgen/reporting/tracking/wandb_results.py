"""The results of a run on W&B: every figure in the summary; tables, charts and the report logged."""

import hashlib
from typing import Any

from textgen.files import read_utf8
from textgen.reporting.results import RunFiles
from textgen.reporting.tracking.rows import result_values
from textgen.reporting.tracking.wandb_charts import charts
from textgen.reporting.tracking.wandb_tables import TABLES

REPORT = "report"
"""The name of the report among what is logged."""

_DIGEST = "results/sha256"
"""The key in the summary that says which tables, charts and report W&B already has."""

_FILES = ("perplexity.json", "decoding.json", "diagnostics.json", "continuations.jsonl")


def log_results(run: Any, files: RunFiles) -> None:
    """Send everything that was measured and the report; what W&B has of them already is not sent twice.

    Raises:
        UserError: a file of the run is damaged.
    """
    run.summary.update(result_values(files))
    digest = _digest(files)
    # A resumed run has the summary of its server; another row of tables would only repeat them.
    if run.summary.get(_DIGEST) != digest and (media := _media(files)):
        run.log(media)
        run.summary.update({_DIGEST: digest})


def _media(files: RunFiles) -> dict[str, Any]:
    import wandb

    tables = {name: make(files) for name, make in TABLES.items()}
    media: dict[str, Any] = {
        name: wandb.Table(columns=[*columns], data=rows, log_mode="IMMUTABLE")
        for name, (columns, rows) in tables.items()
        if rows
    }
    media |= {name: wandb.Html(page, inject=False) for name, page in charts(files).items()}
    report = files.path / "report.html"
    if report.exists():
        media[REPORT] = wandb.Html(read_utf8(report), inject=False)
    return media


def _digest(files: RunFiles) -> str:
    """SHA-256 of the files that tables, charts and report are made from."""
    digest = hashlib.sha256()
    for name in (*(f"evaluation/{name}" for name in _FILES), "report.html"):
        path = files.path / name
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""
        digest.update(f"{name} {content}\n".encode())
    return digest.hexdigest()
