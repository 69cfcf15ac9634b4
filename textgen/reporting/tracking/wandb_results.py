"""The results of a run on W&B: perplexities in the summary; tables, report and model logged."""

import hashlib
from typing import Any

from textgen.files import read_utf8
from textgen.reporting.columns import PERPLEXITIES
from textgen.reporting.results import RETAINED, RunFiles, moments
from textgen.reporting.tracking.wandb_tables import continuations_table, decoding_table

_DIGEST = "results/sha256"
"""The key in the summary that says which tables and report W&B already has."""


def log_results(run: Any, files: RunFiles) -> None:
    """Send everything that was measured, the report and the model; what W&B has of them already is not sent twice.

    Raises:
        UserError: a file of the run is damaged.
    """
    import wandb

    for moment in moments(files.perplexity):
        values = {f"{moment}/{column.key}": files.perplexity[moment].get(column.key) for column in PERPLEXITIES}
        run.summary.update({key: value for key, value in values.items() if value is not None})
    run.summary.update(_balance(files))
    digest = _digest(files)
    # A resumed run has the summary of its server; another row of tables would only repeat them.
    if (media := _media(files)) and run.summary.get(_DIGEST) != digest:
        run.log(media)
        run.summary.update({_DIGEST: digest})
    model = files.path / "model"
    if model.is_dir() and any(model.iterdir()):
        artifact = wandb.Artifact(f"model-{run.id}", type="model")  # the same files are no new version
        artifact.add_dir(str(model), policy="immutable")  # uploads the files in place, without a copy
        run.log_artifact(artifact)


def _media(files: RunFiles) -> dict[str, Any]:
    import wandb

    tables = {"decoding": decoding_table(files), "continuations": continuations_table(files)}
    media: dict[str, Any] = {
        name: wandb.Table(columns=[*columns], data=rows, log_mode="IMMUTABLE")
        for name, (columns, rows) in tables.items()
        if rows
    }
    report = files.path / "report.html"
    if report.exists():
        media["report"] = wandb.Html(read_utf8(report), inject=False)
    return media


def _digest(files: RunFiles) -> str:
    """SHA-256 of the files that tables and report are made from."""
    digest = hashlib.sha256()
    for name in ("evaluation/decoding.json", "evaluation/continuations.jsonl", "report.html"):
        path = files.path / name
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""
        digest.update(f"{name} {content}\n".encode())
    return digest.hexdigest()


def _balance(files: RunFiles) -> dict[str, Any]:
    """Bits per byte without contaminated documents and of retained text, their differences, and the contamination."""
    values = {}
    for key in (*moments(files.perplexity), "difference"):
        entry = files.perplexity.get(key, {})
        values[f"uncontaminated/{key}/bits_per_byte"] = entry.get("uncontaminated", {}).get("bits_per_byte")
        values[f"retained/{key}/bits_per_byte"] = files.perplexity.get(RETAINED, {}).get(key, {}).get("bits_per_byte")
    if files.contamination:
        values["contaminated_documents"] = len(files.contamination.get("documents", []))
    return {key: value for key, value in values.items() if value is not None}
