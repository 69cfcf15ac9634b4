"""Tokenized documents as one stream, from which blocks are cut: input ids, labels and positions."""

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import torch

IGNORED = -100  # the label that torch's cross-entropy ignores


@dataclass(frozen=True)
class TokenStream:
    """Tokenized documents, one after another.

    Attributes:
        ids: (T,) token ids: documents with the special tokens around them.
        offsets: (D,) position of each document's first own token, which its special token precedes.
        edges: (2 N,) ascending positions between which tokens are context only, such as prompts: from the first to the
            second (exclusive), from the third to the fourth, ….
        shared_mark: the token that ends a document is also the one before the next, as for GPT-2. Otherwise the token
            before a document is no target: a document is never expected to follow another.
    """

    ids: np.ndarray
    offsets: np.ndarray
    edges: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    shared_mark: bool = True

    def targets(self, span: np.ndarray) -> int:
        """Number of targets in a block; its first token is context."""
        if not len(self.edges) and self.shared_mark:
            return int(span[1] - span[0] - 1)
        return int((self._labels(span)[1:] != IGNORED).sum())

    def block(self, span: np.ndarray, length: int, *, isolated: bool = False) -> tuple[np.ndarray, ...]:
        """A block as (input_ids, labels, position_ids), int64 of shape (length,).

        Labels are the ids of the targets, not shifted, since the loss shifts them. A shorter block is padded on the
        right with token 0 and ignored labels: to the right of all targets, padding cannot influence them.

        Args:
            span: start and end of the block.
            length: number of tokens to pad to.
            isolated: let positions start again with each document.
        """
        ids = np.zeros(length, np.int64)
        labels = np.full(length, IGNORED, np.int64)
        size = span[1] - span[0]
        ids[:size], labels[:size] = self.ids[span[0] : span[1]], self._labels(span)
        starts = document_starts(span, self.offsets) if isolated else np.empty(0, np.int64)
        return ids, labels, positions_in_documents(length, starts)

    def documents(self, span: np.ndarray) -> range:
        """The numbers of the documents that a block is of; its first token is context, and may be of the one before."""
        first, last = np.searchsorted(self.offsets, [span[0] + 1, span[1] - 1], side="right")
        return range(max(0, int(first) - 1), int(last))

    def _labels(self, span: np.ndarray) -> np.ndarray:
        labels = self.ids[span[0] : span[1]].astype(np.int64)
        first = int(np.searchsorted(self.edges, span[0], side="right"))
        last = int(np.searchsorted(self.edges, span[1], side="left"))
        bounds = np.array([span[0], *self.edges[first:last], span[1]]) - span[0]
        for number, (begin, end) in enumerate(pairwise(bounds), first):
            if number % 2:
                labels[begin:end] = IGNORED
        if not self.shared_mark:
            labels[document_starts(span, self.offsets)] = IGNORED
        return labels


@dataclass(frozen=True)
class Microbatch:
    """What one forward pass sees: its index in the global batch, and tensors (rows, length).

    ``position_ids`` are None unless the documents in a block are isolated.
    """

    index: int
    input_ids: torch.Tensor
    labels: torch.Tensor
    position_ids: torch.Tensor | None = None

    def inputs(self, device: torch.device) -> list[torch.Tensor]:
        """The arguments of :class:`textgen.model.loss.ModelWithLoss`."""
        tensors = (self.input_ids, self.labels, self.position_ids)
        return [tensor.to(device) for tensor in tensors if tensor is not None]


def document_starts(span: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Where in a block the special tokens before documents are: indices of the block's tokens, ascending.

    Args:
        span: start and end of the block.
        offsets: (D,) position of each document's first token.
    """
    first, last = np.searchsorted(offsets, [span[0] + 1, span[1] + 1])
    return np.asarray(offsets[first:last]) - 1 - span[0]


def positions_in_documents(length: int, starts: np.ndarray) -> np.ndarray:
    """Position ids of a block that start again with each document, (length,)."""
    latest = np.zeros(length, np.int64)
    latest[starts] = starts
    return np.arange(length) - np.maximum.accumulate(latest)
