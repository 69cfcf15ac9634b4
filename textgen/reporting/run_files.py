"""What a run directory holds, read once for everything that shows it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from textgen.errors import UserError
from textgen.reporting.jsonl import MetricsRecord

MOMENTS = ("before", "after", "baseline", "model")
"""The keys of ``perplexity.json`` and ``decoding.json``, as they are shown: of fine-tuning, or of evaluation."""


@dataclass(frozen=True)
class RunFiles:
    """The files of a run as plain values; whatever was not written is empty."""

    path: Path
    config: dict[str, Any]
    """Every setting in force."""
    environment: dict[str, Any]
    """Versions, sizes and the command: what the settings do not say."""
    status: dict[str, Any]
    """State of the run, and its message if it failed."""
    metrics: list[dict[str, Any]]
    """Rows of ``metrics.jsonl``, oldest first."""
    perplexity: dict[str, dict[str, Any]]
    """Moment → counts and perplexities; ``"difference"`` → the paired difference of two moments."""
    decoding: dict[str, list[dict[str, Any]]]
    """Moment → a row of metrics for every strategy."""
    diagnostics: dict[str, list[dict[str, Any]]]
    """Moment → a row for every strategy that truncates, and one for the whole distribution."""

    @classmethod
    def read(cls, path: Path) -> "RunFiles":
        """Read everything but the continuations, which may be large.

        Raises:
            UserError: if a file is there but cannot be read, naming the file.
        """
        if not path.is_dir():
            raise UserError(f"{path} is not a directory; give the directory that a run wrote")
        return cls(
            path=path,
            config=_yaml(path / "config.yaml"),
            environment=_json(path / "environment.json"),
            status=_json(path / "status.json"),
            metrics=MetricsRecord(path / "metrics.jsonl").read(),
            perplexity=_present(_json(path / "evaluation" / "perplexity.json")),
            decoding=_present(_json(path / "evaluation" / "decoding.json")),
            diagnostics=_present(_json(path / "evaluation" / "diagnostics.json")),
        )

    def continuations(self) -> Iterator[dict[str, Any]]:
        """The rows of ``evaluation/continuations.jsonl``, one at a time."""
        path = self.path / "evaluation" / "continuations.jsonl"
        if not path.exists():
            return
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise UserError(f"{path}, line {number} is not JSON ({error}); run the evaluation again") from None

    def samples(self) -> list[dict[str, Any]]:
        """The rows of ``samples.jsonl``: what the model wrote while it learned; none if nobody asked for it."""
        return MetricsRecord(self.path / "samples.jsonl").read()

    @property
    def moments(self) -> list[str]:
        """The moments that were measured, earlier or baseline first."""
        return [moment for moment in MOMENTS if moment in self.perplexity or moment in self.decoding]

    @property
    def is_fine_tuning(self) -> bool:
        """Whether the run trained a model, rather than only evaluating one."""
        return bool(self.metrics) or "after" in self.moments or "before" in self.moments

    @property
    def model(self) -> str:
        """Name of the model, as the user gave it."""
        return str(self.config.get("model") or self.environment.get("model") or "the model")

    @property
    def method(self) -> str:
        """How it was trained, or nothing if it was not."""
        return str(self.config.get("method") or "full") if self.is_fine_tuning else ""


def _present(value: dict[str, Any]) -> dict[str, Any]:
    """Without the keys that hold nothing."""
    return {key: item for key, item in value.items() if item}


def _json(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}); run the evaluation again to write it anew") from None
    return value if isinstance(value, dict) else {}


def _yaml(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML ({error})") from None
    return value if isinstance(value, dict) else {}
