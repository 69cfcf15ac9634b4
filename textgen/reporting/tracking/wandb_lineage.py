"""Lineage on W&B, as artifacts: data and base model → run → model; model and data → run of an evaluation → its results.

An artifact's version is its content. So the same data or model is the same version in every run that used it, and an
evaluation is linked to the very model that another run made, also if both were offline.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from textgen.data.mixture.parts import data_name
from textgen.errors import UserError
from textgen.files import read_json
from textgen.printable import printable
from textgen.reporting.formatting import finite
from textgen.reporting.results import RunFiles
from textgen.reporting.tracking.rows import TrackedRun
from textgen.terminal import shown

_BEST = "eval/bits_per_byte"
_LONGEST_NAME = 100
_DATA = ("data", "data_config", "text_column", "validation_data", "validation_fraction")
_DATA_FACTS = ("data_sha256", "train_documents", "train_tokens", "validation_documents")


def log_lineage(run: Any, tracked: TrackedRun, files: RunFiles) -> None:
    """Record what a finished run used and made. What W&B has already becomes no new version, and is not uploaded."""
    for artifact in [_data(tracked), *_models_used(tracked)]:
        _use(run, artifact)
    directory = files.path / "model"
    if directory.is_dir() and any(directory.iterdir()):
        step = int(files.metrics[-1]["step"]) if files.metrics else 0
        facts = {"step": step, "run": tracked.id} | _best(files)
        aliases = ["latest", f"step-{step}"] + ["best"] * (facts.get("best_step") == step)
        run.log_artifact(_made_by_run(directory, tracked.id, facts), aliases=aliases)
    if evaluation := _evaluation(files, tracked.id):
        run.log_artifact(evaluation, aliases=["latest"])


def _use(run: Any, artifact: Any) -> None:
    """Record that a run used an artifact, which becomes a version if there is none with this content.

    The public ``use_artifact`` refuses to be called offline, and waits for the server otherwise.
    """
    run._log_artifact(artifact, aliases=["latest"], is_user_created=True, use_after_commit=True)


def _data(tracked: TrackedRun) -> Any:
    """The data, by its fingerprint: the texts are not uploaded."""
    settings, facts = tracked.settings, tracked.facts
    known = {name: settings[name] for name in _DATA if settings.get(name) is not None}
    known |= {name: facts[name] for name in _DATA_FACTS if name in facts}
    named = settings.get("validation_data") if tracked.is_evaluation else None
    return _described(f"data-{data_name(str(named or settings.get('data')))}", "dataset", known)


def _models_used(tracked: TrackedRun) -> list[Any]:
    """The base model of a training run; the model that was measured and the baseline of an evaluation."""
    settings = tracked.settings
    names = [] if settings.get("from_scratch") else [settings.get("model")]
    names += [settings.get("baseline")]
    return [_model(str(name), settings.get("revision")) for name in names if name]


def _model(name: str, revision: Any) -> Any:
    """A model by its name: the version that a run made, or else a description, without the weights."""
    directory = Path(name).expanduser()
    try:
        if directory.is_dir() and (made_by := _run_of(directory)):
            return _made_by_run(directory, made_by, {"run": made_by})
        sizes = {path.name: path.stat().st_size for path in sorted(directory.glob("*.safetensors"))}
    except OSError:
        sizes = {}
    known = {"model": name, "revision": revision, "files": sizes or None}
    return _described(f"base-{directory.name}", "model", {key: value for key, value in known.items() if value})


def _run_of(directory: Path) -> str | None:
    """The id of the run whose model is in a directory; None if it is of no run."""
    try:
        found = read_json(directory.resolve().parent / "environment.json").get("tracking_id")
    except UserError:
        return None
    is_id = directory.resolve().name == "model" and isinstance(found, str) and re.fullmatch("[0-9a-f]{12}", found)
    return str(found) if is_id else None


def _made_by_run(directory: Path, run_id: str, facts: Mapping[str, Any]) -> Any:
    import wandb

    artifact = wandb.Artifact(f"model-{run_id}", type="model", metadata=dict(facts))
    artifact.add_dir(str(directory), policy="immutable")  # uploads the files in place, without a copy
    return artifact


def _best(files: RunFiles) -> dict[str, Any]:
    """The best evaluation during training, and its step."""
    measured = [(value, row["step"]) for row in files.metrics if (value := finite(row.get(_BEST))) is not None]
    if not measured:
        return {}
    value, step = min(measured)
    return {"best_step": step, f"best_{_BEST.split('/')[1]}": value}


def _evaluation(files: RunFiles, run_id: str) -> Any:
    """What was measured, and the report; None if nothing was."""
    import wandb

    directory = files.path / "evaluation"
    paths = [*sorted(directory.glob("*.json")), files.path / "report.html"]
    if not files.perplexity:
        return None
    artifact = wandb.Artifact(f"evaluation-{run_id}", type="evaluation")
    for path in paths:
        if path.is_file():
            artifact.add_file(str(path), policy="immutable")
    return artifact


def _described(name: str, kind: str, known: Mapping[str, Any]) -> Any:
    """An artifact that has a description and nothing else."""
    import wandb

    facts = {key: shown(value) if isinstance(value, str) else value for key, value in known.items()}
    artifact = wandb.Artifact(_artifact_name(name), type=kind, metadata=facts)
    with artifact.new_file(f"{kind}.json", encoding="utf-8") as file:
        file.write(json.dumps(facts, indent=2, sort_keys=True) + "\n")
    return artifact


def _artifact_name(name: str) -> str:
    """A name with the characters that W&B takes."""
    return re.sub(r"[^\w.-]+", "-", printable(name), flags=re.ASCII)[:_LONGEST_NAME].strip("-.") or "unnamed"
