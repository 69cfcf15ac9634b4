"""The tokens and blocks of several parts, as one sequence: those of the second part come after those of the first."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from textgen.data.token_stream import TokenStream


@dataclass(frozen=True)
class MixedStream:
    """The streams of several parts. It cuts blocks like :class:`textgen.data.token_stream.TokenStream`.

    Attributes:
        parts: the streams, of the same tokenizer.
        counts: how many of the blocks in a period come from each; see :mod:`textgen.data.mixture.draws`.
    """

    parts: tuple[TokenStream, ...]
    counts: tuple[int, ...]

    @classmethod
    def of(cls, stream: "TokenStream | MixedStream") -> "MixedStream":
        """The stream itself, or a mixture of nothing else."""
        return stream if isinstance(stream, MixedStream) else cls((stream,), (1,))

    @cached_property
    def begins(self) -> np.ndarray:
        """(parts,) position of each part's first token."""
        return _begins([len(part.ids) for part in self.parts])

    def targets(self, span: np.ndarray) -> int:
        """Number of targets in a block; its first token is context."""
        part, own = self._locate(span)
        return part.targets(own)

    def block(self, span: np.ndarray, length: int, *, isolated: bool = False) -> tuple[np.ndarray, ...]:
        """A block; see :meth:`textgen.data.token_stream.TokenStream.block`."""
        part, own = self._locate(span)
        return part.block(own, length, isolated=isolated)

    def documents(self, span: np.ndarray) -> list[tuple[int, int]]:
        """The documents that a block is of: the index of their part, and their number in it."""
        index = int(np.searchsorted(self.begins, span[0], side="right")) - 1
        return [(index, number) for number in self.parts[index].documents(span - self.begins[index])]

    def _locate(self, span: np.ndarray) -> tuple[TokenStream, np.ndarray]:
        index = int(np.searchsorted(self.begins, span[0], side="right")) - 1
        return self.parts[index], span - self.begins[index]


class MixedSpans(Sequence[np.ndarray]):
    """Start and end of each block of several parts in their :class:`MixedStream`.

    Args:
        parts: the spans of each part, which :class:`textgen.data.blocks.BlockSpans` computes.
        begins: position of each part's first token.

    Attributes:
        blocks: number of blocks of each part.
    """

    def __init__(self, parts: Sequence[Sequence[np.ndarray]], begins: np.ndarray) -> None:
        self._parts, self._token_begins = parts, begins
        self.blocks = [len(part) for part in parts]
        self._begins = _begins(self.blocks)

    def __len__(self) -> int:
        return sum(self.blocks)

    def __getitem__(self, index: Any) -> Any:
        if np.ndim(index) == 0:
            return self[np.array([range(len(self))[index]])][0]
        indices = np.asarray(index, np.int64)
        owner = np.searchsorted(self._begins, indices, side="right") - 1
        spans = np.empty((len(indices), 2), np.int64)
        for number in np.unique(owner):
            here = owner == number
            own: Any = indices[here] - self._begins[number]
            spans[here] = self._parts[number][own] + self._token_begins[number]
        return spans


def _begins(sizes: Sequence[int]) -> np.ndarray:
    return np.cumsum([0, *sizes[:-1]])
