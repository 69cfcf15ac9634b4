"""Reads and writes what was measured in a run, and reads the other files that its report shows."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from io import BytesIO
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from textgen.checksums import check_seal
from textgen.data.overlap.contamination import Contamination
from textgen.data.overlap.near_duplicates import NearDuplicates
from textgen.errors import UserError
from textgen.evaluation.decoding import strategies
from textgen.evaluation.measure_model import Measurement
from textgen.evaluation.perplexity.document_sums import DocumentScore
from textgen.files import json_bytes, json_line, parse_json, parse_jsonl, read_bytes, read_json
from textgen.reporting.jsonl import read_rows
from textgen.run.checked_files import CheckedFiles
from textgen.run.manifest import MANIFEST, damaged_files, read_manifest
from textgen.run.settings_file import parse_settings

MOMENT_PAIRS = (("before", "after"), ("baseline", "model"))
"""A *moment* is the key of one measured model in the files under ``evaluation/``: before and after fine-tuning, or the
baseline and the model of an evaluation. The second of a pair is compared with the first."""

RETAINED = "retained"
"""The key of the text of ``--retain-data`` in ``perplexity.json``, and the "set" of its rows in ``documents.jsonl``."""

FILES: tuple[str, ...] = ("documents.jsonl", "contamination.json", "balance.json", "continuations.jsonl")
FILES += ("decoding.json", "recommendation.json", "diagnostics.json", "perplexity.json")
"""The files under ``evaluation/``."""

HUMAN = strategies.HUMAN.name
"""The strategy of the row and the texts that people wrote, in ``decoding.json`` and ``continuations.jsonl``."""


def moment_pair(by_moment: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """The two moments that a result compares, reference first; with only one model measured, (None, its moment)."""
    for first, second in MOMENT_PAIRS:
        if second in by_moment:
            return (first if first in by_moment else None), second
    return None, next((first for first, _ in MOMENT_PAIRS if first in by_moment), None)


def moments(by_moment: Mapping[str, Any]) -> list[str]:
    """The one or two moments that a result is about, reference first; empty if nothing was measured."""
    return [moment for moment in moment_pair(by_moment) if moment]


class EvaluationResults:
    """The files under ``evaluation/``, by moment (see :data:`MOMENT_PAIRS`).

    Measurements are written one at a time, each file atomically, with the checksums of all of them beside them.

    Args:
        run_dir: the run directory.
        with_decoding: whether a complete measurement compares decoding strategies.

    Attributes:
        files: reads, checks and writes the files.
    """

    def __init__(self, run_dir: Path, *, with_decoding: bool = False) -> None:
        self.directory = run_dir / "evaluation"
        self.with_decoding = with_decoding
        self._remedy = f"Restore the file, or delete {self.directory} to measure again."
        self.files = CheckedFiles(self.directory, FILES, remedy=self._remedy)

    @property
    def score_cache(self) -> Path:
        """Directory of window scores, from which an interrupted evaluation resumes."""
        return self.directory / "records"

    def has(self, moment: str) -> bool:
        """Whether the measurement of a moment is complete: with the score of every document, and its decoding.

        Raises:
            UserError: a file is damaged.
        """
        perplexity = self.perplexity()
        if moment not in perplexity or len(self._scores(moment)) != perplexity[moment].get("documents"):
            return False
        retained = perplexity.get(RETAINED, {}).get(moment, {})
        if len(self._scores(moment, RETAINED)) != retained.get("documents", 0):
            return False
        if not self.with_decoding:
            return True
        return moment in self.decoding() and any(row["when"] == moment for row in self.continuations())

    def perplexity(self) -> dict[str, Any]:
        """The contents of ``perplexity.json``."""
        return self._read("perplexity.json", lambda entry: isinstance(entry, dict))

    def decoding(self) -> dict[str, Any]:
        """The contents of ``decoding.json``; empty if decoding was skipped."""
        return self._read("decoding.json", _is_table)

    def recommendation(self) -> dict[str, Any]:
        """The contents of ``recommendation.json``; empty if decoding was skipped."""
        return self._read("recommendation.json", lambda entry: isinstance(entry, dict) and "confirmed" in entry)

    def diagnostics(self) -> dict[str, Any]:
        """The contents of ``diagnostics.json``; empty if decoding was skipped."""
        return self._read("diagnostics.json", _is_table)

    def continuations(self) -> Iterator[dict[str, Any]]:
        """The rows of ``continuations.jsonl``, one at a time."""
        return self._rows("continuations.jsonl", prompt_id=str, prompt=str, strategy=str, sample=int, text=str)

    def contamination(self) -> dict[str, Any]:
        """The contents of ``contamination.json``; empty if contaminated documents were not looked for."""
        path = self.directory / "contamination.json"
        value = self._json(path.name)
        near = value.get("near_duplicates")
        if value and not (_has(value, Contamination) and (near is None or _has(near, NearDuplicates))):
            raise UserError(f"{path}: does not contain what textgen writes there. {self._remedy}")
        return value

    def mask(self) -> dict[str, Any]:
        """What was trained on of examples of a task, from ``balance.json``; empty if no example was."""
        return dict(self._read("balance.json", lambda entry: isinstance(entry, dict)).get("mask", {}))

    def scores(self, moment: str, text_set: str | None = None) -> list[DocumentScore]:
        """The document scores of one moment, from ``documents.jsonl``: of held-out text, or of :data:`RETAINED`.

        Raises:
            UserError: they are not as many as ``perplexity.json`` says.
        """
        found = self._scores(moment, text_set)
        perplexity = self.perplexity()
        entries = perplexity.get(text_set, {}) if text_set else perplexity
        expected = entries.get(moment, {}).get("documents", len(found))
        if len(found) != expected:
            raise UserError(
                f"{self.directory / 'documents.jsonl'}: {len(found)} documents {moment!r}, but perplexity.json was "
                f"computed from {expected}. {self._remedy}"
            )
        return found

    def _scores(self, moment: str, text_set: str | None = None) -> list[DocumentScore]:
        names = [field.name for field in fields(DocumentScore)]
        rows = self._rows("documents.jsonl", id=str, nll=float, tokens=int, words=int, bytes=int)
        own = (row for row in rows if row["when"] == moment and row.get("set") == text_set)
        return [DocumentScore(**{k: row[k] for k in names if k in row}) for row in own]

    def write(self, moment: str, measurement: Measurement) -> None:
        """Add a measurement; an incomplete one of the same moment is replaced."""
        retained = measurement.retained
        rows = [asdict(score) for score in measurement.scores]
        rows += [{"set": RETAINED, **asdict(score)} for score in (retained.scores if retained else [])]
        files = {"documents.jsonl": self._merged("documents.jsonl", moment, rows)}
        if measurement.contamination:
            files["contamination.json"] = json_bytes(asdict(measurement.contamination))
        if measurement.mask:
            files["balance.json"] = json_bytes({"mask": asdict(measurement.mask)})
        if measurement.decoding:
            texts = (asdict(one) for one in measurement.continuations)
            files["continuations.jsonl"] = self._merged("continuations.jsonl", moment, texts)
            files["decoding.json"] = json_bytes(self.decoding() | {moment: measurement.decoding})
        if measurement.recommendation:
            recommendation = self.recommendation() | {moment: measurement.recommendation}
            files["recommendation.json"] = json_bytes(recommendation)
        if measurement.diagnostics:
            files["diagnostics.json"] = json_bytes(self.diagnostics() | {moment: measurement.diagnostics})
        perplexity = self.perplexity() | {moment: measurement.perplexity}
        if retained:
            perplexity[RETAINED] = perplexity.pop(RETAINED, {}) | {moment: retained.perplexity}
        self.files.write(files | {"perplexity.json": json_bytes(perplexity)})

    def write_difference(self, difference: Mapping[str, Any], retained: Mapping[str, Any] | None = None) -> None:
        """Add the paired difference of two moments to ``perplexity.json``; ``retained`` is that of retained text."""
        perplexity = self.perplexity() | {"difference": difference}
        if retained:
            perplexity[RETAINED] = perplexity[RETAINED] | {"difference": retained}
        self.files.write({"perplexity.json": json_bytes(perplexity)})

    def write_recommended_file(self, moment: str, name: str) -> None:
        """Add to a recommendation which file of the run has it."""
        found = self.recommendation()
        found[moment] = found[moment] | {"written_to": name}
        self.files.write({"recommendation.json": json_bytes(found)})

    def discard(self, *moments: str) -> None:
        """Forget that these moments were measured, so that they are measured anew; their rows stay until then."""
        perplexity = self.perplexity()
        kept = {moment: entry for moment, entry in perplexity.items() if moment not in moments}
        if kept != perplexity:
            self.files.write({"perplexity.json": json_bytes(kept)})

    def _merged(self, name: str, moment: str, rows: Iterable[Mapping[str, Any]]) -> bytes:
        """The contents of a JSON Lines file with other rows of a moment."""
        others = [row for row in self._rows(name) if row["when"] != moment]
        return b"".join(map(json_line, [*others, *({"when": moment, **row} for row in rows)]))

    def _read(self, name: str, is_entry: Callable[[Any], bool]) -> dict[str, Any]:
        """The contents of a JSON file: moments, each with an entry."""
        path, value = self.directory / name, self._json(name)
        for moment, entry in value.items():
            if not is_entry(entry):
                raise UserError(f"{path}: {moment!r} does not contain what textgen writes there. {self._remedy}")
        return value

    def _json(self, name: str) -> dict[str, Any]:
        data = self.files.read(name)
        return {} if data is None else parse_json(data, self.directory / name, self._remedy)

    def _rows(self, name: str, **types: type) -> Iterator[dict[str, Any]]:
        """The rows of a JSON Lines file, which must have "when" and these keys, with values of these types."""
        path, types = self.directory / name, {"when": str, **types}
        lines = BytesIO(self.files.read(name) or b"")
        for line, row in enumerate(parse_jsonl(lines, path, self._remedy), start=1):
            if not isinstance(row, dict) or not all(isinstance(row.get(key), kind) for key, kind in types.items()):
                expected = ", ".join(f"{key} ({kind.__name__})" for key, kind in types.items())
                raise UserError(f"{path}, line {line}: must be an object with {expected}. {self._remedy}")
            yield row


@dataclass(frozen=True)
class RunFiles:
    """The files of a run as plain values; files that were not written are empty."""

    path: Path
    config: dict[str, Any]
    """All settings in force."""
    environment: dict[str, Any]
    """Versions, sizes and the command line: everything that the settings do not contain."""
    status: dict[str, Any]
    """State of the run, and its message if it failed."""
    metrics: list[dict[str, Any]]
    """Rows of ``metrics.jsonl``, oldest first."""
    perplexity: dict[str, dict[str, Any]]
    """Moment → counts and perplexities; ``"difference"`` → the paired difference of two moments; :data:`RETAINED` → the
    same for that text."""
    decoding: dict[str, list[dict[str, Any]]]
    """Moment → one row of metrics per strategy."""
    diagnostics: dict[str, list[dict[str, Any]]]
    """Moment → one row per strategy that truncates, and one for the full distribution."""
    contamination: dict[str, Any]
    """Held-out documents that occur in the training text."""
    mask: dict[str, Any]
    """What was trained on of examples of a task."""
    recommendation: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Moment → the recommended strategy."""

    @classmethod
    def read(cls, path: Path) -> "RunFiles":
        """Read everything except the texts, which may be large.

        Raises:
            UserError: the directory does not exist, or a file in it is damaged.
        """
        if not path.is_dir():
            raise UserError(f"{path}: no such directory. Choose a run directory.")
        _check_finished(path)
        results = EvaluationResults(path)
        return cls(
            path=path,
            config=_read_yaml(path / "config.yaml"),
            environment=_read_environment(path / "environment.json"),
            status=read_json(path / "status.json"),
            metrics=read_rows(path / "metrics.jsonl"),
            perplexity=_without_empty(results.perplexity()),
            decoding=_without_empty(results.decoding()),
            diagnostics=_without_empty(results.diagnostics()),
            contamination=results.contamination(),
            mask=results.mask(),
            recommendation=results.recommendation(),
        )

    def continuations(self) -> Iterator[dict[str, Any]]:
        """The rows of ``evaluation/continuations.jsonl``, one at a time."""
        return EvaluationResults(self.path).continuations()

    def samples(self) -> Sequence[dict[str, Any]]:
        """The rows of ``samples.jsonl``; empty without ``--sample-every``."""
        return read_rows(self.path / "samples.jsonl")

    @property
    def is_fine_tuning(self) -> bool:
        """Whether the run trained a model rather than only evaluating one."""
        return bool(self.metrics) or any(key in self.perplexity or key in self.decoding for key in MOMENT_PAIRS[0])

    @property
    def model(self) -> str:
        """Name of the model, as the user gave it."""
        return str(self.config.get("model") or self.environment.get("model") or "the model")

    @property
    def method(self) -> str:
        """Fine-tuning method; empty for an evaluation."""
        return str(self.config.get("method") or "full") if self.is_fine_tuning else ""


def _check_finished(run_dir: Path) -> None:
    """Check that the files of a finished run, except its model, are as it wrote them."""
    manifest = read_manifest(run_dir)
    if manifest is None:
        damaged = [MANIFEST] if (run_dir / MANIFEST).exists() else []
    else:
        own = {name: sha256 for name, sha256 in manifest["files"].items() if not name.startswith("model/")}
        damaged = damaged_files(run_dir, own)
    if damaged:
        raise UserError(
            f"{run_dir / damaged[0]}: damaged: it is not what the run wrote. Run the command of the run again to "
            "restore it, or restore the file."
        )


def _has(value: Any, kind: type) -> bool:
    """Whether a JSON value has every field of a data class that has no default, of its type; so have rows in it."""
    if not isinstance(value, dict):
        return False
    types = get_type_hints(kind)
    required = {field.name: types[field.name] for field in fields(kind) if field.default is MISSING}
    for name, expected in required.items():
        found = value.get(name)
        if get_origin(expected) is tuple:
            if not isinstance(found, list) or not all(_has(row, get_args(expected)[0]) for row in found):
                return False
        elif not isinstance(found, int | float if expected is float else expected):
            return False
    return True


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(row, dict) for row in value)


def _without_empty(value: dict[str, Any]) -> dict[str, Any]:
    return {key: item for key, item in value.items() if item}


def _read_environment(path: Path) -> dict[str, Any]:
    value = read_json(path)
    found = check_seal(value) if "sha256" in value else value  # one of an earlier version has no seal
    if found is None:
        raise UserError(f"{path}: damaged: it does not match its checksum. Restore the file.")
    return found


def _read_yaml(path: Path) -> dict[str, Any]:
    found = parse_settings(read_bytes(path)) if path.exists() else {}
    if found is None:
        raise UserError(f"{path}: damaged: not the settings of a run. Restore the file.")
    return found
