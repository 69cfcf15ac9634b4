"""Held-out documents on disk, read one at a time."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from textgen.data.document import Document, StoredDocuments
from textgen.data.tokens.entry import open_array

DOCUMENTS, ENDS, HASHES, BYTES = "documents.jsonl", "ends.bin", "hashes.bin", "bytes.bin"
_READ_AT_A_TIME = 1 << 16  # documents


class HeldOut(StoredDocuments):
    """The held-out documents, in the order of the data.

    Args:
        entry: directory that :func:`finish` has finished.

    Attributes:
        split_hashes: (documents,) float64: ``textgen.data.split.split_hash`` of each document.
    """

    def __init__(self, entry: Path) -> None:
        self._text = open_array(entry / DOCUMENTS, np.uint8)
        self._ends = open_array(entry / ENDS, np.int64)
        self.split_hashes = open_array(entry / HASHES, np.float64)
        self._bytes = open_array(entry / BYTES, np.int64)

    def __len__(self) -> int:
        return len(self._ends)

    def read(self, index: int) -> Document:
        begin = self._ends[index - 1] if index else 0
        return parse(self._text[begin : self._ends[index]].tobytes())

    def hashes_and_bytes(self) -> Iterator[tuple[float, int]]:
        """Each document's split hash and ``Document.bytes``, without reading its text."""
        for start in range(0, len(self), _READ_AT_A_TIME):
            part = slice(start, start + _READ_AT_A_TIME)
            yield from zip(self.split_hashes[part].tolist(), self._bytes[part].tolist(), strict=True)


def line(document: Document) -> bytes:
    """A document as a line of ``documents.jsonl``."""
    return json.dumps(vars(document)).encode() + b"\n"  # `asdict` would copy, which takes longer


def parse(text: bytes) -> Document:
    """The document in a line of ``documents.jsonl``."""
    return Document.from_row(json.loads(text))
