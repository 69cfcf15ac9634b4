"""Held-out documents on disk, read one at a time."""

import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import overload

import numpy as np

from textgen.data.document import Document
from textgen.data.tokens.entry import map_array, seal

DOCUMENTS, ENDS, HASHES, ORDER = "documents.jsonl", "ends.bin", "hashes.bin", "order.bin"
_SORTED_AT_A_TIME = 1 << 22  # hashes in memory while they are sorted


class HeldOut(Sequence[Document]):
    """The held-out documents, in the order of the data. Only those that are asked for are read.

    Args:
        entry: directory that :func:`finish` has finished.

    Attributes:
        split_hashes: (documents,) float64, memory-mapped: ``textgen.data.split.split_hash`` of each document.
    """

    def __init__(self, entry: Path) -> None:
        self._text = map_array(entry / DOCUMENTS, np.uint8)
        self._ends = map_array(entry / ENDS, np.int64)
        self.split_hashes = map_array(entry / HASHES, np.float64)
        self._order = map_array(entry / ORDER, np.int64)

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> Document: ...
    @overload
    def __getitem__(self, index: slice) -> list[Document]: ...
    def __getitem__(self, index: int | slice) -> Document | list[Document]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = range(len(self))[index]  # counts negative indices from the end, and raises IndexError
        begin = self._ends[index - 1] if index else 0
        return parse(self._text[begin : self._ends[index]].tobytes())

    def in_hash_order(self) -> Iterator[int]:
        """Indices of the documents in ascending order of their split hash; equal ones in the order of the data.

        A document's place among others depends on their texts alone. So the first documents in this order, as many as
        are wanted, are a random sample that is the same for every run and model, and part of every larger sample.
        """
        return map(int, self._order)


def line(document: Document) -> bytes:
    """A document as a line of ``documents.jsonl``."""
    return json.dumps(vars(document)).encode() + b"\n"  # `asdict` would copy, which takes longer


def parse(text: bytes) -> Document:
    """The document in a line of ``documents.jsonl``."""
    return Document.from_row(json.loads(text))


def finish(directory: Path) -> None:
    """Sort the hashes of a directory that contains all documents, and seal it."""
    hashes = map_array(directory / HASHES, np.float64)
    with (directory / ORDER).open("wb") as order:
        for indices in _hash_order(hashes):
            indices.astype(np.int64).tofile(order)
    seal(directory, {})


def _hash_order(hashes: np.ndarray) -> Iterator[np.ndarray]:
    """The indices that sort the hashes, piece by piece: hashes are spread evenly, so each piece is about as large."""
    pieces = 1 + len(hashes) // _SORTED_AT_A_TIME
    highest = hashes.max(initial=0)
    edges = [*np.linspace(0, highest, pieces, endpoint=False), np.inf]
    for low, high in pairwise(edges):
        found = np.flatnonzero((hashes >= low) & (hashes < high))
        yield found[np.argsort(hashes[found], kind="stable")]
