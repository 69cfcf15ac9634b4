"""What trackers get, and its names: the rows of the record with the figures of timing.jsonl, and settings by group.

The tables of names here are also what the panels of ``textgen dashboard`` are made from.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from textgen.data.config import DataConfig
from textgen.evaluation.config import EvaluationConfig
from textgen.files import read_json
from textgen.model.config import AdapterConfig, ModelConfig
from textgen.printable import printable
from textgen.reporting.columns import ACCURACIES, METRICS, PERPLEXITIES, Column
from textgen.reporting.config import TrackingConfig
from textgen.reporting.formatting import bounds, finite
from textgen.reporting.results import RETAINED, RunFiles, moments
from textgen.run.config import OutputConfig, RunConfig
from textgen.run.directory import RunDirectory
from textgen.terminal import shown
from textgen.training.config import EngineConfig, TrainingConfig

STEP = "train/step"
"""The name of a row's step, against which everything is plotted."""

TOKENS = "train/tokens"
"""The target tokens that were trained on so far: the other horizontal axis."""

TRAINING = {
    "train/loss": "loss, nats per token",
    "train/learning_rate": "learning rate",
    "train/grad_norm": "gradient norm",
    TOKENS: "tokens trained on",
    "train/skipped": "skipped steps",
}
EVALUATION = {
    "eval/loss": "held-out loss, nats per token",
    "eval/token_perplexity": "held-out token perplexity",
    "eval/bits_per_byte": "held-out bits per byte",
}
SYSTEM = {
    "system/tokens_per_second": "tokens a second",
    "system/seconds_per_step": "seconds a step",
    "system/peak_memory_bytes": "peak memory, bytes",
    "system/evaluation_share": "share of time in evaluation",
    "system/saving_share": "share of time in saving and sampling",
}
"""Names of what trackers get in a row → titles."""

# What is in config by its group; a setting that two groups have belongs to the one that the recipe has.
_SHARED: dict[str, type] = {
    "model": ModelConfig,
    "adapters": AdapterConfig,
    "data": DataConfig,
    "evaluation": EvaluationConfig,
}
FINETUNING = _SHARED | {
    "training": TrainingConfig,
    "engine": EngineConfig,
    "run": RunConfig,
    "tracking": TrackingConfig,
}
EVALUATING = _SHARED | {"output": OutputConfig, "tracking": TrackingConfig}

_FACTS: tuple[str, ...] = (
    "total_steps",
    "trainable_parameters",
    "total_parameters",
    "microbatch_size",
    "processes",
    "threads",
)
_FACTS += ("precision", "device", "versions", "train_documents", "train_tokens", "train_targets", "data_sha256")
_FACTS += ("validation_documents", "evaluation_documents")


@dataclass(frozen=True)
class TrackedRun:
    """The run that a tracker is to show."""

    path: Path
    """The run directory."""
    settings: Mapping[str, Any]
    """What ``config.yaml`` contains."""
    facts: Mapping[str, Any]
    """What ``environment.json`` contains."""
    id: str
    """Stable when the run is resumed, different for every other run."""

    @classmethod
    def of(cls, directory: RunDirectory) -> "TrackedRun":
        """The run of a directory, which has its ``environment.json``."""
        facts = read_json(directory.path / "environment.json")
        return cls(directory.path, directory.settings, facts, directory.tracking_id())

    @property
    def name(self) -> str:
        """The name of the run directory, as it may be shown."""
        return shown(self.path.resolve().name)

    @property
    def is_evaluation(self) -> bool:
        """Whether it is a run of ``recipes/evaluate.py``."""
        return "output_dir" in self.settings

    @property
    def config(self) -> dict[str, Any]:
        """Settings by group, and under "environment" what is known of sizes and versions; text as it may be shown."""
        groups = EVALUATING if self.is_evaluation else FINETUNING
        nested: dict[str, Any] = {}
        left = dict(self.settings)
        for group, kind in groups.items():
            names = [field.name for field in fields(kind) if field.name in left]
            nested |= {group: {name: _shown(left.pop(name)) for name in names}} if names else {}
        facts = {name: _shown(self.facts[name]) for name in _FACTS if name in self.facts}
        return (
            nested | {name: _shown(value) for name, value in left.items()} | ({"environment": facts} if facts else {})
        )


def tracked_row(row: Mapping[str, Any], timing: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A row of ``metrics.jsonl`` as trackers get it: with what the row of ``timing.jsonl`` of that step says."""
    if not timing:
        return dict(row)
    seconds, steps = timing.get("seconds") or 0.0, timing.get("steps")
    spent = {kind: timing.get(f"{kind}_seconds") for kind in ("evaluation", "saving")}
    whole = seconds + sum(value or 0.0 for value in spent.values())
    system: dict[str, Any] = {
        "tokens_per_second": timing.get("tokens_per_second") or None,  # 0 if nothing was trained since the last row
        "seconds_per_step": seconds / steps if steps and seconds else None,
        "peak_memory_bytes": timing.get("peak_memory_bytes"),
    }
    system |= {f"{kind}_share": value / whole for kind, value in spent.items() if value is not None and whole > 0}
    return dict(row) | {f"system/{name}": value for name, value in system.items() if value is not None}


def tracked_rows(metrics: Sequence[Mapping[str, Any]], timing: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows of a record as trackers get them."""
    by_step = {row["step"]: row for row in timing}
    return [tracked_row(row, by_step.get(row["step"])) for row in metrics]


def logged_values(row: Mapping[str, Any]) -> dict[str, Any]:
    """A tracked row with its step by the name that W&B has for it."""
    return {STEP: int(row["step"])} | {key: value for key, value in row.items() if key != "step"}


def result_values(files: RunFiles) -> dict[str, float]:
    """Every figure that was measured, with the ends of its interval as ``…_low`` and ``…_high``.

    ``after/bits_per_byte``, ``difference/bits_per_byte``, ``retained/after/bits_per_byte``,
    ``uncontaminated/after/bits_per_byte``, ``decoding/after/top_p/diversity``, ``contaminated_documents``.
    """
    values: dict[str, float] = {}
    for moment in (*moments(files.perplexity), "difference"):
        entry = files.perplexity.get(moment, {})
        values |= _with_interval(moment, entry, (*PERPLEXITIES, *ACCURACIES))
        values |= _with_interval(f"uncontaminated/{moment}", entry.get("uncontaminated", {}), PERPLEXITIES[-1:])
        retained = files.perplexity.get(RETAINED, {}).get(moment, {})
        values |= _with_interval(f"retained/{moment}", retained, PERPLEXITIES[-1:])
    for moment in moments(files.decoding):
        for row in files.decoding[moment]:
            values |= _with_interval(f"decoding/{moment}/{strategy_key(row.get('strategy'))}", row, METRICS)
    if files.contamination:
        values["contaminated_documents"] = len(files.contamination.get("documents", []))
    return values


def strategy_key(strategy: Any) -> str:
    """The name of a strategy inside a key: ``top_p[0.9]`` → ``top_p_0_9``, since trackers read a dot as a path."""
    return re.sub(r"\W+", "_", printable(strategy)).strip("_") or "strategy"


def _with_interval(prefix: str, entry: Mapping[str, Any], columns: Sequence[Column]) -> Iterator[tuple[str, float]]:
    for column in columns:
        if (value := finite(entry.get(column.key))) is None:
            continue
        yield f"{prefix}/{column.key}", value
        if ends := bounds(entry.get(f"{column.key}_interval")):
            yield f"{prefix}/{column.key}_low", ends[0]
            yield f"{prefix}/{column.key}_high", ends[1]


def _shown(value: Any) -> Any:
    """Settings and facts as a page may show them."""
    if isinstance(value, str):
        return shown(value)
    return {key: _shown(one) for key, one in value.items()} if isinstance(value, Mapping) else value
