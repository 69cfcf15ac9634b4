"""Reading and writing what was measured in a run, and reading everything else that its report shows."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from textgen.errors import UserError
from textgen.evaluation.measure_model import Measurement
from textgen.evaluation.perplexity.document_sums import DocumentScore
from textgen.files import read_json, read_jsonl, write_json, write_jsonl
from textgen.reporting.jsonl import StepRecord

MOMENTS = ("before", "after", "baseline", "model")
"""The keys of ``perplexity.json`` and ``decoding.json``: of fine-tuning, or of evaluation; in the order shown."""


class EvaluationResults:
    """The files under ``evaluation/``, by moment: "before" and "after", or "baseline" and "model".

    Written one measurement at a time, each file atomically; ``perplexity.json`` comes last and marks it complete.

    Args:
        run_dir: the run directory.
    """

    def __init__(self, run_dir: Path) -> None:
        self.directory = run_dir / "evaluation"

    @property
    def score_cache(self) -> Path:
        """Directory of window scores, from which an interrupted evaluation continues."""
        return self.directory / "records"

    def has(self, moment: str) -> bool:
        """Whether the measurement of that moment is complete."""
        return moment in self.perplexity()

    def perplexity(self) -> dict[str, Any]:
        """The contents of ``perplexity.json``."""
        return read_json(self.directory / "perplexity.json")

    def decoding(self) -> dict[str, Any]:
        """The contents of ``decoding.json``; empty if decoding was skipped."""
        return read_json(self.directory / "decoding.json")

    def diagnostics(self) -> dict[str, Any]:
        """The contents of ``diagnostics.json``; empty if decoding was skipped."""
        return read_json(self.directory / "diagnostics.json")

    def continuations(self) -> Iterator[dict[str, Any]]:
        """The rows of ``continuations.jsonl``, one at a time."""
        return read_jsonl(self.directory / "continuations.jsonl")

    def scores(self, moment: str) -> list[DocumentScore]:
        """The documents' scores of one moment, from ``documents.jsonl``."""
        rows = read_jsonl(self.directory / "documents.jsonl")
        return [DocumentScore(**{k: v for k, v in row.items() if k != "when"}) for row in rows if row["when"] == moment]

    def write(self, moment: str, measurement: Measurement) -> None:
        """Add a measurement, or replace an incomplete one of the same moment."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self._merge_rows("documents.jsonl", moment, (asdict(score) for score in measurement.scores))
        if measurement.decoding:
            self._merge_rows("continuations.jsonl", moment, (asdict(one) for one in measurement.continuations))
            write_json(self.directory / "decoding.json", self.decoding() | {moment: measurement.decoding})
        if measurement.diagnostics:
            write_json(self.directory / "diagnostics.json", self.diagnostics() | {moment: measurement.diagnostics})
        write_json(self.directory / "perplexity.json", self.perplexity() | {moment: measurement.perplexity})

    def write_difference(self, difference: Mapping[str, Any]) -> None:
        """Add the paired difference of two moments to ``perplexity.json``."""
        write_json(self.directory / "perplexity.json", self.perplexity() | {"difference": difference})

    def _merge_rows(self, name: str, moment: str, rows: Iterable[Mapping[str, Any]]) -> None:
        path = self.directory / name
        others = [row for row in read_jsonl(path) if row["when"] != moment]
        write_jsonl(path, [*others, *({"when": moment, **row} for row in rows)])


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
            UserError: the directory does not exist, or a file in it is damaged.
        """
        if not path.is_dir():
            raise UserError(f"{path}: no such directory. Give the directory of a run.")
        results = EvaluationResults(path)
        return cls(
            path=path,
            config=_read_yaml(path / "config.yaml"),
            environment=read_json(path / "environment.json"),
            status=read_json(path / "status.json"),
            metrics=StepRecord(path / "metrics.jsonl").read(),
            perplexity=_present(results.perplexity()),
            decoding=_present(results.decoding()),
            diagnostics=_present(results.diagnostics()),
        )

    def continuations(self) -> Iterator[dict[str, Any]]:
        """The rows of ``evaluation/continuations.jsonl``, one at a time."""
        return EvaluationResults(self.path).continuations()

    def samples(self) -> Sequence[dict[str, Any]]:
        """The rows of ``samples.jsonl``; none without ``--sample-every``."""
        return StepRecord(self.path / "samples.jsonl").read()

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
        """How it was trained; empty if it was not."""
        return str(self.config.get("method") or "full") if self.is_fine_tuning else ""


def _present(value: dict[str, Any]) -> dict[str, Any]:
    """Without the keys that hold nothing."""
    return {key: item for key, item in value.items() if item}


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML ({error}).") from None
    return value if isinstance(value, dict) else {}
