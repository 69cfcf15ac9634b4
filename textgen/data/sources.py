"""Finding the texts that ``--data`` names: files, bundled corpora or hub datasets, each checked and fingerprinted."""

import difflib
import glob
import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from textgen.data.bundled import BUNDLED, find_bundled
from textgen.data.config import DataConfig
from textgen.data.file_checks import check_file
from textgen.errors import UserError, collect_problems, first_line

# File extension → name of the `datasets` reader for it. To support a format, add a line here and a test.
FORMATS = {".txt": "text", ".jsonl": "json", ".csv": "csv", ".parquet": "parquet"}


@dataclass(frozen=True)
class Source:
    """One file, bundled corpus or hub dataset that documents are read from.

    Attributes:
        name: prefix of its documents' ids: a file's path below the directory of ``--data``, or what ``--data`` names.
        kind: "bundled", "hub", or the `datasets` reader for the file.
        location: path of a file; otherwise what ``--data`` names.
        fingerprint: changes when the content does.
    """

    name: str
    kind: str
    location: str
    fingerprint: str


@dataclass(frozen=True)
class DataSources:
    """The sources of a run's training and held-out documents.

    Attributes:
        train: the sources of ``--data``.
        held_out: the sources of ``--validation-data``; None if part of ``--data`` is held out instead.
        retained: the sources of ``--retain-data``; None without it. Not part of the fingerprint, since no token and no
            training step depends on them.
    """

    train: list[Source]
    held_out: list[Source] | None = None
    retained: list[Source] | None = None

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the names and contents of the sources of training and held-out text."""
        parts = [_fingerprint(self.train), _fingerprint(self.held_out) if self.held_out else None]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def find_data(config: DataConfig) -> DataSources:
    """The sources that a configuration names, checked and fingerprinted by their content.

    Raises:
        UserError: data is missing or unusable; the message lists every such file.
    """
    found: dict[str, list[Source]] = {}
    problems: list[str] = []
    named = {"--data": config.data, "--validation-data": config.validation_data, "--retain-data": config.retain_data}
    for setting, data in named.items():
        if data:
            with collect_problems(problems):
                found[setting] = find_sources(data, config, setting=setting)
    if problems:
        raise UserError.of(problems)
    return DataSources(found["--data"], found.get("--validation-data"), found.get("--retain-data"))


def find_sources(data: str, config: DataConfig, *, setting: str = "--data") -> list[Source]:
    """The sources that ``data`` names, in a fixed order, each checked and fingerprinted by its content.

    Args:
        data: a bundled corpus, file, directory, glob pattern or hub dataset.
        config: names the configuration of a hub dataset.
        setting: the flag that named the data, for error messages.

    Raises:
        UserError: there is no such data, or a file is empty, binary, not UTF-8 or in an unknown format; the message
            lists every such file.
    """
    if bundled := find_bundled(data, setting=setting):
        return [Source(data, "bundled", data, bundled.fingerprint())]
    paths = _paths(data)
    if paths is None:
        return [_hub_source(data, config, setting)]
    if not paths:
        raise UserError(f"{setting} {data}: no file with a supported extension ({', '.join(FORMATS)}) found there.")
    path = Path(data).expanduser()
    root = path if path.is_dir() else Path(os.path.commonpath([path.parent for path in paths]))
    found, problems = [], []
    for path in paths:
        extension = path.suffix.lower()
        if extension not in FORMATS:
            problems.append(
                f"{setting} {path}: unknown format '{path.suffix}'. Supported formats: {', '.join(FORMATS)}."
            )
            continue
        try:
            fingerprint = check_file(path)
        except UserError as error:
            problems.append(f"{setting} {error}")
        else:
            found.append(Source(str(path.relative_to(root)), FORMATS[extension], str(path), fingerprint))
    if problems:
        raise UserError.of(problems)
    return found


def _fingerprint(sources: list[Source]) -> str:
    return hashlib.sha256(json.dumps([(s.name, s.kind, s.fingerprint) for s in sources]).encode()).hexdigest()


def _paths(data: str) -> list[Path] | None:
    """The files that ``data`` names; None if it is neither a path nor a glob pattern."""
    path = Path(data).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        files = (
            p for p in path.rglob("*") if p.is_file() and not any(q.startswith(".") for q in p.parts[len(path.parts) :])
        )
        return sorted(p for p in files if p.suffix.lower() in FORMATS)
    if glob.has_magic(data):
        return sorted(Path(p) for p in glob.glob(str(path), recursive=True) if Path(p).suffix.lower() in FORMATS)
    return None


def _hub_source(data: str, config: DataConfig, setting: str) -> Source:
    """A dataset of the Hugging Face hub; its files are downloaded into the hub's cache."""
    near = difflib.get_close_matches(data, BUNDLED, n=1, cutoff=0.7)
    looks_like_path = Path(data).suffix.lower() in {*FORMATS, ".json", ".md", ".tsv", ".gz"} or data.startswith(
        ("/", ".", "~")
    )
    if near or looks_like_path or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?(:\w+)?", data):
        hint = f"Did you mean '{near[0]}'?" if near else "Check the path; it is read from the current directory."
        raise UserError(f"{setting} {data}: there is no such file or directory. {hint}")
    from datasets import load_dataset_builder

    name, _, _ = data.partition(":")
    try:
        builder = load_dataset_builder(name, config.data_config)
    except Exception as error:  # the hub client raises a dozen unrelated types of errors, offline and online
        raise UserError(
            f"{setting} {data}: not a file, directory or bundled corpus ({', '.join(BUNDLED)}), and cannot be opened "
            f"as a hub dataset: {first_line(error)}"
        ) from None
    return Source(data, "hub", data, str(builder.hash) + str(builder.config_id))
