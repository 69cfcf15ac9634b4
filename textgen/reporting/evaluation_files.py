"""The files under ``evaluation/``: what was measured, by when it was."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from textgen.evaluation.measure_model import Measurement
from textgen.evaluation.perplexity.summary import DocumentScore, paired_difference
from textgen.reporting.jsonl import write_json, write_jsonl


class EvaluationFiles:
    """Written one measurement at a time, each file as a whole; ``perplexity.json``, the last, marks it complete."""

    def __init__(self, run_dir: Path) -> None:
        self.directory = run_dir / "evaluation"

    @property
    def records(self) -> Path:
        """Directory for scores as they are made: what a killed evaluation goes on from."""
        return self.directory / "records"

    def has(self, when: str) -> bool:
        """Whether the measurement of that name is complete."""
        return when in self._read("perplexity.json")

    def perplexity(self) -> dict[str, Any]:
        """What ``perplexity.json`` holds."""
        return self._read("perplexity.json")

    def decoding(self) -> dict[str, Any]:
        """What ``decoding.json`` holds; empty if decoding was skipped."""
        return self._read("decoding.json")

    def write(self, when: str, measurement: Measurement) -> None:
        """Add a measurement, or replace an incomplete one of the same name."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self._merge_lines("documents.jsonl", when, (asdict(score) for score in measurement.scores))
        if measurement.decoding:
            self._merge_lines("continuations.jsonl", when, (asdict(c) for c in measurement.continuations))
            write_json(self.directory / "decoding.json", self.decoding() | {when: measurement.decoding})
        if measurement.diagnostics:
            diagnostics = self._read("diagnostics.json") | {when: measurement.diagnostics}
            write_json(self.directory / "diagnostics.json", diagnostics)
        write_json(self.directory / "perplexity.json", self.perplexity() | {when: measurement.perplexity})

    def write_difference(self, first: str, second: str, *, seed: int) -> None:
        """Add the paired difference of two measurements (second − first) to ``perplexity.json``."""
        difference = paired_difference(self._scores(first), self._scores(second), seed=seed)
        write_json(self.directory / "perplexity.json", self.perplexity() | {"difference": difference})

    def _scores(self, when: str) -> Sequence[DocumentScore]:
        lines = self._lines("documents.jsonl")
        return [
            DocumentScore(**{k: v for k, v in line.items() if k != "when"}) for line in lines if line["when"] == when
        ]

    def _merge_lines(self, name: str, when: str, rows: Iterable[Mapping[str, Any]]) -> None:
        others = [line for line in self._lines(name) if line["when"] != when]
        write_jsonl(self.directory / name, [*others, *({"when": when, **row} for row in rows)])

    def _lines(self, name: str) -> list[dict[str, Any]]:
        path = self.directory / name
        return (
            [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line] if path.exists() else []
        )

    def _read(self, name: str) -> dict[str, Any]:
        path = self.directory / name
        return json.loads(path.read_text()) if path.exists() else {}
