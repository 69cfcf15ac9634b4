"""Reading documents from their sources, one at a time.

`datasets` reads the files in streaming mode: bounded memory for every format, and no second copy on disk.
"""

import glob
import json
from collections.abc import Iterator

from textgen.data.bundled import find_bundled
from textgen.data.config import DataConfig
from textgen.data.document import Document
from textgen.data.sources import DataSources, Source, find_data
from textgen.data.split import is_held_out, resolve_fraction
from textgen.errors import UserError, first_line


def read_documents(sources: list[Source], config: DataConfig, *, setting: str = "--data") -> Iterator[Document]:
    """Every document of the sources, in order; texts that are empty or only white space are skipped.

    Args:
        sources: where the documents are.
        config: names the text column, and says how text files are divided into documents.
        setting: the flag that named the sources, for error messages.

    Raises:
        UserError: a table has no text column, or a file is damaged.
    """
    for source in sources:
        if source.kind == "bundled":
            bundled = find_bundled(source.location, setting=setting)
            assert bundled, "find_sources found it"
            texts = iter(bundled.texts())
        elif source.kind == "text":
            texts = _whole_file(source) if config.one_document else _paragraphs(source)
        else:
            texts = _column(source, config, setting)
        for i, text in enumerate(texts):
            if text.strip():
                yield Document(f"{source.name}#{i}", source.name, text)


def held_out_fraction(config: DataConfig, sources: DataSources) -> float:
    """Fraction of ``--data`` to hold out, for :func:`textgen.data.split.is_held_out`; 0 with ``--validation-data``."""
    if sources.held_out is not None:
        return 0.0
    return resolve_fraction(lambda: read_documents(sources.train, config), config.validation_fraction)


def training_documents(config: DataConfig, sources: DataSources | None = None) -> Iterator[Document]:
    """The documents to train on: all of ``--data`` that is not held out.

    Args:
        config: names the data and the split.
        sources: what :func:`textgen.data.sources.find_data` found, to save finding it again.
    """
    sources = sources or find_data(config)
    fraction = held_out_fraction(config, sources)
    return (d for d in read_documents(sources.train, config) if not is_held_out(d, fraction))


def held_out_documents(config: DataConfig, sources: DataSources | None = None) -> list[Document]:
    """All of ``--validation-data``, or else the validation split of ``--data``.

    Args:
        config: names the data and the split.
        sources: what :func:`textgen.data.sources.find_data` found, to save finding it again.

    Raises:
        UserError: there is no such document, or the data cannot be read.
    """
    sources = sources or find_data(config)
    if sources.held_out is not None:
        found = list(read_documents(sources.held_out, config, setting="--validation-data"))
    else:
        fraction = held_out_fraction(config, sources)
        found = [d for d in read_documents(sources.train, config) if is_held_out(d, fraction)]
    if not found and config.validation_data:
        raise UserError(f"--validation-data {config.validation_data}: contains no text.")
    if not found:
        raise UserError(
            f"--validation-fraction {config.validation_fraction}: no document of {config.data} falls into the "
            "validation split. Increase it, or specify the text to evaluate with --validation-data."
        )
    return found


def retained_documents(config: DataConfig, sources: DataSources) -> Iterator[Document]:
    """The documents of ``--retain-data``; none without it."""
    return read_documents(sources.retained or [], config, setting="--retain-data")


def _stream(source: Source, **options: object) -> Iterator[dict[str, object]]:
    """Rows of a file, read by the `datasets` reader for its format."""
    from datasets import load_dataset

    if source.kind == "csv":
        options["keep_default_na"] = False  # pandas would turn the texts "NA" and "None" into missing values
    file = glob.escape(source.location)  # `datasets` would expand it as a pattern, and silently read nothing
    return iter(load_dataset(source.kind, data_files=file, split="train", streaming=True, **options))


def _whole_file(source: Source) -> Iterator[str]:
    """The text of a file, without a byte order mark."""
    for row in _stream(source, sample_by="document"):
        yield str(row["text"]).removeprefix("\ufeff")


def _paragraphs(source: Source) -> Iterator[str]:
    """The paragraphs of a text file: runs of lines between blank ones; lines of only white space count as blank."""
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
    """The text column of a table; missing values are empty texts."""
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
                    f"--text-column {column}: row {i} of {source.location}: the value is of type "
                    f"{type(text).__name__}, not text."
                )
            yield text or ""
    except UserError:
        raise
    except Exception as error:  # `datasets` wraps the errors of all readers in an uninformative one of its own
        raise UserError(
            f"{setting} {source.location}: cannot be read as {source.kind}: {_reason(source, error)}"
        ) from None


def _hub_rows(source: Source, config: DataConfig) -> Iterator[dict[str, object]]:
    from datasets import load_dataset

    name, _, split = source.location.partition(":")
    return iter(load_dataset(name, config.data_config, split=split or "train"))


def _reason(source: Source, error: Exception) -> str:
    """Why a source cannot be read: the first invalid line of a .jsonl file, or the message of the root cause."""
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
    return first_line(error)
