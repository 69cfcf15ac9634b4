"""The documents of several parts as one sequence."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, chain

from textgen.data.document import Document, StoredDocuments
from textgen.data.tokens.held_out import HeldOut


class JoinedDocuments(StoredDocuments):
    """The documents of one part after those of another.

    Args:
        parts: each part's documents.
    """

    def __init__(self, parts: Sequence[HeldOut]) -> None:
        self._parts = parts
        self._ends = list(accumulate(map(len, parts)))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def read(self, index: int) -> Document:
        part = bisect_right(self._ends, index)
        return self._parts[part][index - (self._ends[part - 1] if part else 0)]

    def hashes_and_bytes(self) -> Iterator[tuple[float, int]]:
        """Each document's split hash and ``Document.bytes``, without reading its text."""
        return chain.from_iterable(part.hashes_and_bytes() for part in self._parts)
