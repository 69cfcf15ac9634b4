"""The table of file formats."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from textgen.data.formats.arrow_tables import read_arrow, read_parquet
from textgen.data.formats.delimited import read_csv, read_tsv
from textgen.data.formats.file_to_read import FileToRead, Row
from textgen.data.formats.json_rows import read_json, read_json_lines
from textgen.data.formats.plain_text import read_text
from textgen.data.formats.streams import COMPRESSIONS


@dataclass(frozen=True)
class Format:
    """A file format.

    Attributes:
        kind: its name in the fingerprint of the data.
        read: file → texts, or the columns of examples.
        is_text: the file is UTF-8 text, and may be compressed.
    """

    kind: str
    read: Callable[[FileToRead], Iterator[Row]]
    is_text: bool = True


# File extension → format. To support one, add a line here and a test.
FORMATS = {
    ".txt": Format("text", read_text),
    ".jsonl": Format("json", read_json_lines),
    ".json": Format("json", read_json),
    ".csv": Format("csv", read_csv),
    ".tsv": Format("tsv", read_tsv),
    ".parquet": Format("parquet", read_parquet, is_text=False),
    ".arrow": Format("arrow", read_arrow, is_text=False),
}

# For messages: what the extension of a file may be.
SUPPORTED = f"{', '.join(FORMATS)}, and of the text formats also {' and '.join(COMPRESSIONS)}"


def extension_of(path: Path) -> str:
    """A file's extension in lower case, including that of a compression: ``.jsonl.gz``."""
    parts = [suffix.lower() for suffix in path.suffixes[-2:]]
    return "".join(parts if parts and parts[-1] in COMPRESSIONS else parts[-1:])


def is_compressed(path: Path) -> bool:
    """Whether a file's name says that it is compressed."""
    return path.suffix.lower() in COMPRESSIONS


def find_format(path: Path) -> Format | None:
    """The format that a file's name says it has; None if it is not supported."""
    if is_compressed(path):
        found = FORMATS.get(Path(path.stem).suffix.lower())
        return found if found and found.is_text else None
    return FORMATS.get(path.suffix.lower())
