"""Finding the texts that ``--data`` names, checking them, and reading them one document at a time.

Files are read by `datasets` in streaming mode: every format in bounded memory, and no second copy on disk. What it
reports opaquely (an empty, binary or non-UTF-8 file, a broken line of JSON) is looked for here first, so that the
message can name the file and the byte.
"""

import codecs
import difflib
import glob
import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from textgen.data.bundled import BUNDLED, find_bundled
from textgen.data.config import DataConfig
from textgen.data.document import Document, least_fraction
from textgen.errors import UserError

# File name ending → the reader of `datasets` that understands it. A new format is one line here, and its test.
READERS = {".txt": "text", ".jsonl": "json", ".csv": "csv", ".parquet": "parquet"}

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Source:
    """One file, bundled corpus or hub dataset that documents are read from."""

    name: str
    kind: str
    location: str
    fingerprint: str


def find_sources(data: str, config: DataConfig, *, setting: str = "--data") -> list[Source]:
    """The sources that ``data`` names, in a fixed order, each checked and fingerprinted by its content.

    Raises:
        UserError: nothing is there, or a file is empty, binary, not UTF-8 or of an unknown format; all such files are
            named in one message.
    """
    if bundled := find_bundled(data, setting=setting):
        return [Source(data, "bundled", data, bundled.fingerprint())]
    paths = _paths(data)
    if paths is None:
        return [_hub_source(data, config, setting)]
    if not paths:
        raise UserError(f"{setting} {data}: no file there ends in {', '.join(READERS)}.")
    path = Path(data).expanduser()
    root = path if path.is_dir() else Path(os.path.commonpath([path.parent for path in paths]))
    found, problems = [], []
    for path in paths:
        try:
            fingerprint = _inspect(path)
        except UserError as error:
            problems.append(f"{setting} {error}")
        else:
            found.append(Source(str(path.relative_to(root)), READERS[path.suffix.lower()], str(path), fingerprint))
    if problems:
        raise UserError.of(problems)
    return found


def read_documents(sources: list[Source], config: DataConfig, *, setting: str = "--data") -> Iterator[Document]:
    """Every document of the sources, in order; texts without anything but white space are passed over.

    Raises:
        UserError: a table has no text column, or a file breaks off in the middle.
    """
    for source in sources:
        if source.kind == "bundled":
            bundled = find_bundled(source.location, setting=setting)
            assert bundled, "it was found once"
            texts = iter(bundled.texts())
        elif source.kind == "text":
            texts = _whole_file(source) if config.one_document else _paragraphs(source)
        else:
            texts = _column(source, config, setting)
        for i, text in enumerate(texts):
            if text.strip():
                yield Document(f"{source.name}#{i}", source.name, text)


def held_out_documents(config: DataConfig) -> list[Document]:
    """All of ``--validation-data``, or else the validation split of ``--data``.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    setting = "--validation-data" if config.validation_data else "--data"
    name = config.validation_data or config.data
    documents = read_documents(find_sources(name, config, setting=setting), config, setting=setting)
    found = [d for d in documents if config.validation_data or d.in_validation(config.validation_fraction)]
    if not found and not config.validation_data:
        everything = list(read_documents(find_sources(name, config), config))  # few, or some would have been held out
        found = [d for d in everything if d.in_validation(least_fraction(everything))]
    if not found:
        raise UserError(
            f"--validation-fraction {config.validation_fraction}: no document of {name} falls into the validation "
            "split. Raise it, or name the text to evaluate with --validation-data."
        )
    return found


def data_fingerprint(sources: list[Source]) -> str:
    """SHA-256 over the sources' names and contents."""
    return hashlib.sha256(json.dumps([(s.name, s.kind, s.fingerprint) for s in sources]).encode()).hexdigest()


def _paths(data: str) -> list[Path] | None:
    """The files that ``data`` names, or None if it is no name of files at all."""
    path = Path(data).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        files = (
            p for p in path.rglob("*") if p.is_file() and not any(q.startswith(".") for q in p.parts[len(path.parts) :])
        )
        return sorted(p for p in files if p.suffix.lower() in READERS)
    if glob.has_magic(data):
        return sorted(Path(p) for p in glob.glob(str(path), recursive=True) if Path(p).suffix.lower() in READERS)
    return None


def _hub_source(data: str, config: DataConfig, setting: str) -> Source:
    """A dataset of the hub, its files downloaded into the hub's own cache."""
    near = difflib.get_close_matches(data, BUNDLED, n=1, cutoff=0.7)
    looks_like_path = Path(data).suffix.lower() in {*READERS, ".json", ".md", ".tsv", ".gz"} or data.startswith(
        ("/", ".", "~")
    )
    if near or looks_like_path or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?(:\w+)?", data):
        hint = f"Did you mean '{near[0]}'?" if near else "Check the path; it is read from the current directory."
        raise UserError(f"{setting} {data}: there is no such file or directory. {hint}")
    from datasets import load_dataset_builder

    name, _, _ = data.partition(":")
    try:
        builder = load_dataset_builder(name, config.data_config)
    except Exception as error:  # the hub client raises a dozen unrelated types, offline and online
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"{setting} {data}: no file, directory or bundled data ({', '.join(BUNDLED)}) is called that, and as a hub "
            f"dataset it could not be opened: {reason}"
        ) from None
    return Source(data, "hub", data, str(builder.hash) + str(builder.config_id))


def _inspect(path: Path) -> str:
    """SHA-256 of a file that is worth reading.

    Raises:
        UserError: the file is empty, of an unknown format, binary or not UTF-8 (with the byte offset).
    """
    if path.suffix.lower() not in READERS:
        raise UserError(f"{path}: unknown format '{path.suffix}'. Use one of {', '.join(READERS)}.")
    try:
        size = path.stat().st_size
        if size == 0:
            raise UserError(f"{path}: the file is empty.")
        if path.suffix.lower() == ".parquet":
            return _inspect_parquet(path)
        return _inspect_text(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}.") from None


def _inspect_text(path: Path) -> str:
    digest, decoder, offset, blank = hashlib.sha256(), codecs.getincrementaldecoder("utf-8")(), 0, True
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            if (nul := chunk.find(b"\0")) >= 0:
                raise UserError(f"{path}: byte {offset + nul} is NUL, so this is a binary file, not text.")
            carried = len(decoder.getstate()[0])
            _decode(decoder, chunk, path, offset - carried, final=False)
            blank = blank and not chunk.strip()
            offset += len(chunk)
    _decode(decoder, b"", path, offset - len(decoder.getstate()[0]), final=True)
    if blank:
        raise UserError(f"{path}: the file is empty but for white space.")
    return digest.hexdigest()


def _decode(decoder: codecs.IncrementalDecoder, chunk: bytes, path: Path, start: int, *, final: bool) -> None:
    try:
        decoder.decode(chunk, final)
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: not UTF-8 at byte {start + error.start} (0x{error.object[error.start]:02x}). "
            f"Convert it, for example: iconv -f LATIN1 -t UTF-8 {path.name} > converted{path.suffix}"
        ) from None


def _inspect_parquet(path: Path) -> str:
    with path.open("rb") as file:
        if file.read(4) != b"PAR1":
            raise UserError(f"{path}: byte 0 does not start a Parquet file; is the ending right?")
        file.seek(0)
        return hashlib.file_digest(file, "sha256").hexdigest()


def _stream(source: Source, **options: object) -> Iterator[dict[str, object]]:
    from datasets import load_dataset

    if source.kind == "csv":
        options["keep_default_na"] = False  # "NA" and "None" are words, too
    file = glob.escape(source.location)  # `datasets` takes names for patterns, and finds nothing without a word
    return iter(load_dataset(source.kind, data_files=file, split="train", streaming=True, **options))


def _whole_file(source: Source) -> Iterator[str]:
    for row in _stream(source, sample_by="document"):
        yield str(row["text"]).removeprefix("\ufeff")


def _paragraphs(source: Source) -> Iterator[str]:
    """Runs of lines between blank ones; a line of white space alone counts as blank."""
    lines: list[str] = []
    for row in _stream(source, sample_by="line"):
        line = str(row["text"]).removeprefix("\ufeff")
        if line.strip():
            lines.append(line)
        elif lines:
            yield "\n".join(lines)
            lines = []
    if lines:
        yield "\n".join(lines)


def _column(source: Source, config: DataConfig, setting: str) -> Iterator[str]:
    column = config.text_column
    try:
        rows = _hub_rows(source, config) if source.kind == "hub" else _stream(source)
        for i, row in enumerate(rows):
            if column not in row:
                raise UserError(
                    f"--text-column {column}: {setting} {source.location} has no such column. "
                    f"It has: {', '.join(map(str, row))}."
                )
            text = row[column]
            if text is not None and not isinstance(text, str):
                raise UserError(
                    f"--text-column {column}: row {i} of {source.location} holds a {type(text).__name__}, not text."
                )
            yield text or ""
    except UserError:
        raise
    except Exception as error:  # `datasets` wraps every reader's error in its own opaque one
        raise UserError(
            f"{setting} {source.location}: cannot be read as {source.kind}: {_reason(source, error)}"
        ) from None


def _hub_rows(source: Source, config: DataConfig) -> Iterator[dict[str, object]]:
    from datasets import load_dataset

    name, _, split = source.location.partition(":")
    return iter(load_dataset(name, config.data_config, split=split or "train"))


def _reason(source: Source, error: Exception) -> str:
    """The first broken line of a .jsonl file, or the deepest message there is."""
    if source.kind == "json":
        offset = 0
        with open(source.location, "rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    if line.strip() and not isinstance(json.loads(line), dict):
                        return f"line {number} (byte {offset}) is not a JSON object."
                except json.JSONDecodeError as broken:
                    return f"line {number} (byte {offset}) is not valid JSON: {broken.msg}."
                offset += len(line)
    while error.__cause__ is not None and isinstance(error.__cause__, Exception):
        error = error.__cause__
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
