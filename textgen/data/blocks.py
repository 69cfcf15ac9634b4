"""Tokens → blocks → microbatches, as pure functions of (seed, step).

Consecutive blocks overlap by one token: the last token of a block is also the first of the next, where it serves as
context only. So every target of the corpus is in exactly one block, and a block never exceeds the model's context. This
holds with packing, where blocks run across document boundaries, and without it, where every document has blocks of its
own.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from textgen.data.mixture.draws import blocks_at, drawn_before
from textgen.data.mixture.streams import MixedSpans, MixedStream
from textgen.data.token_stream import IGNORED, Microbatch, TokenStream

GROUP = 64  # documents whose blocks are counted together; a block's document is searched for among so many
_COUNTED_AT_A_TIME = GROUP << 14


class BlockSpans(Sequence[np.ndarray]):
    """Start and end of each block, computed when asked for; a block's first token is context, the others are targets.

    ``spans[index]`` is (start, end), int64 of shape (2,); ``spans[indices]`` has shape (n, 2).

    Args:
        token_count: number of tokens in the corpus.
        block_size: tokens in a block; the last block, or with ``offsets`` each document's last block, can be shorter.
        offsets: (D,) position of each document's first token, to give every document its own blocks; None packs
            documents together. A document's first block starts with the special token before the document, from which
            its first token is predicted.
        block_counts: what :func:`count_blocks` returns for the same corpus; None counts again.
        shared_mark: the token that ends a document is also the one before the next, as for GPT-2.
    """

    def __init__(
        self,
        token_count: int,
        block_size: int,
        offsets: np.ndarray | None = None,
        *,
        block_counts: np.ndarray | None = None,
        shared_mark: bool = True,
    ) -> None:
        self._token_count, self._targets, self._offsets = token_count, block_size - 1, offsets
        self._shared_mark = shared_mark
        if offsets is None:
            self._length = max(0, -(-(token_count - 1) // self._targets))
            return
        if block_counts is None:
            block_counts = count_blocks(token_count, block_size, offsets, shared_mark=shared_mark)
        self._counts = block_counts
        self._length = int(self._counts[-1])

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: Any) -> Any:
        if np.ndim(index) == 0:
            return self._spans(np.array([range(self._length)[index]]))[0]
        return self._spans(np.asarray(index))

    def _spans(self, indices: np.ndarray) -> np.ndarray:
        if self._offsets is None:
            starts = indices * self._targets
            ends = np.minimum(starts + self._targets, self._token_count - 1) + 1
        else:
            document, number = self._documents(indices)
            first, last = self._stretches(document)
            starts = first + number * self._targets
            ends = np.minimum(starts + self._targets, last) + 1
        return np.stack([starts, ends], axis=1)

    def _documents(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The document that each block belongs to, and the number of the block in its document."""
        assert self._offsets is not None
        group = np.searchsorted(self._counts, indices, side="right") - 1
        documents = group[:, None] * GROUP + np.arange(GROUP)
        inside = documents < len(self._offsets)
        first, last = self._stretches(np.where(inside, documents, 0))
        ends = np.cumsum(np.where(inside, _blocks_in(first, last, self._targets), 0), axis=1)
        number = indices - self._counts[group]  # of the block in its group
        place = (ends <= number[:, None]).sum(axis=1)  # of the document in its group
        before = np.where(place, np.take_along_axis(ends, np.maximum(place - 1, 0)[:, None], axis=1)[:, 0], 0)
        return group * GROUP + place, number - before

    def _stretches(self, documents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        assert self._offsets is not None
        return _stretches(self._offsets, self._token_count, documents, self._shared_mark)


def count_blocks(token_count: int, block_size: int, offsets: np.ndarray, *, shared_mark: bool = True) -> np.ndarray:
    """Number of blocks in all documents before every ``GROUP``-th one, and last the number of all blocks.

    One pass over the offsets, in bounded memory; the result, int64 of shape (ceil(D / GROUP) + 1,), is small.

    Args:
        token_count: number of tokens in the corpus.
        block_size: tokens in a block.
        offsets: (D,) position of each document's first token.
        shared_mark: see :class:`BlockSpans`.
    """
    counts = [np.zeros(1, np.int64)]
    for begin in range(0, len(offsets), _COUNTED_AT_A_TIME):
        documents = np.arange(begin, min(begin + _COUNTED_AT_A_TIME, len(offsets)))
        blocks = _blocks_in(*_stretches(offsets, token_count, documents, shared_mark), block_size - 1)
        counts.append(np.add.reduceat(blocks, np.arange(0, len(blocks), GROUP)))
    return np.cumsum(np.concatenate(counts))


def count_lengths(token_count: int, limit: int, offsets: np.ndarray, *, shared_mark: bool = True) -> np.ndarray:
    """(limit + 2,) int64, number of documents by tokens, with the special tokens before and after them.

    The last element counts all that are longer than ``limit``, and so do not fit into a block of that size. Arguments
    as for :func:`count_blocks`.
    """
    counts = np.zeros(limit + 2, np.int64)
    for begin in range(0, len(offsets), _COUNTED_AT_A_TIME):
        documents = np.arange(begin, min(begin + _COUNTED_AT_A_TIME, len(offsets)))
        first, last = _stretches(offsets, token_count, documents, shared_mark)
        counts += np.bincount(np.minimum(last - first, limit) + 1, minlength=limit + 2)
    return counts


def _stretches(
    offsets: np.ndarray, token_count: int, documents: np.ndarray, shared_mark: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the first and the last token of the stretches that some documents' blocks are cut from."""
    following = np.minimum(documents + 1, len(offsets) - 1)
    last = np.where(following > documents, offsets[following] - (1 if shared_mark else 2), token_count - 1)
    return offsets[documents] - 1, last


def _blocks_in(first: np.ndarray, last: np.ndarray, targets: int) -> np.ndarray:
    return np.maximum(0, -(-(last - first) // targets))


class GlobalBatches:
    """The blocks that each step trains on, independent of the number of processes.

    A global batch is a slice of its epoch's order; the last one of an epoch is short if the global batch size does not
    divide the number of blocks. It is split into a fixed number of microbatches, and each process takes a contiguous
    share of them.

    Args:
        stream: the tokenized documents, or those of a mixture's parts.
        block_size: maximum number of tokens in a block.
        global_batch_size: blocks in a global batch.
        microbatch_size: blocks in a microbatch; must divide ``global_batch_size``.
        seed: random seed of the order of blocks, combined with the epoch.
        packing: "joined": documents run across the ends of blocks; "isolated": the same, and the documents in a block
            do not see each other; "none": every document has its own blocks.
        block_counts: returns what :func:`count_blocks` returns for each part and a block size, for "none"; None counts
            again.

    Attributes:
        blocks: number of blocks of all parts, which is the length of an epoch.
        microbatches: number of microbatches in a global batch.
        steps_per_epoch: number of global batches in an epoch.
    """

    def __init__(
        self,
        stream: TokenStream | MixedStream,
        *,
        block_size: int,
        global_batch_size: int,
        microbatch_size: int,
        seed: int,
        packing: str = "joined",
        block_counts: Callable[[int], Sequence[np.ndarray]] | None = None,
    ) -> None:
        assert global_batch_size % microbatch_size == 0, "TrainingConfig.problems reports this"
        self.stream, self.block_size, self.seed, self.packing = MixedStream.of(stream), block_size, seed, packing
        parts = self.stream.parts
        counted: Sequence[np.ndarray | None] = [None] * len(parts)
        if block_counts and packing == "none":
            counted = block_counts(block_size)
        spans = [
            BlockSpans(
                len(part.ids),
                block_size,
                part.offsets if packing == "none" else None,
                block_counts=counts,
                shared_mark=part.shared_mark,
            )
            for part, counts in zip(parts, counted, strict=True)
        ]
        self.spans = MixedSpans(spans, self.stream.begins)
        self.global_batch_size = global_batch_size
        self.microbatches = global_batch_size // microbatch_size
        self.blocks = len(self.spans)
        self.steps_per_epoch = -(-self.blocks // global_batch_size)

    def indices(self, step: int) -> np.ndarray:
        """Indices of the blocks in the global batch of a step, in order; the first step is 1."""
        epoch, batch = divmod(step - 1, self.steps_per_epoch)
        first = batch * self.global_batch_size
        positions = epoch * self.blocks + np.arange(first, min(first + self.global_batch_size, self.blocks))
        return blocks_at(positions, blocks=self.spans.blocks, counts=self.stream.counts, seed=self.seed)

    def epochs_of_parts(self, steps: int) -> list[float]:
        """How often so many steps train on each part: 1 if they take each of its blocks once."""
        epochs, batches = divmod(steps, self.steps_per_epoch)
        position = epochs * self.blocks + min(batches * self.global_batch_size, self.blocks)
        drawn = drawn_before(position, counts=self.stream.counts, seed=self.seed)
        return [number / blocks for number, blocks in zip(drawn, self.spans.blocks, strict=True)]

    def targets(self, step: int) -> int:
        """Number of target tokens in the global batch of a step; every process computes the same number."""
        return sum(self.stream.targets(span) for span in self.spans[self.indices(step)])

    def documents(self, step: int) -> list[tuple[int, int]]:
        """The documents that a step trains on, in the order of its blocks: each one's part, and its number there."""
        found = (document for span in self.spans[self.indices(step)] for document in self.stream.documents(span))
        return list(dict.fromkeys(found))

    def process_share(self, step: int, rank: int, world_size: int) -> Iterator[Microbatch]:
        """This process's microbatches of a step.

        The length is the block size or, without packing, the length of the longest row. A short global batch is spread
        over the same number of microbatches; one that gets no blocks contains a single row without targets, so that
        all processes make the same number of forward and backward passes.
        """
        assert self.microbatches % world_size == 0, "TrainingConfig.problems reports this"
        per_rank = self.microbatches // world_size
        parts = np.array_split(self.indices(step), self.microbatches)
        for i in range(rank * per_rank, (rank + 1) * per_rank):
            yield self._microbatch(i, self.spans[parts[i]])

    def _microbatch(self, index: int, spans: np.ndarray) -> Microbatch:
        isolated = self.packing == "isolated"
        if not len(spans):
            ids = torch.zeros(1, self.block_size, dtype=torch.long)
            positions = torch.arange(self.block_size)[None] if isolated else None
            return Microbatch(index, ids, torch.full_like(ids, IGNORED), positions)
        length = int((spans[:, 1] - spans[:, 0]).max()) if self.packing == "none" else self.block_size
        rows = [self.stream.block(span, length, isolated=isolated) for span in spans]
        ids, labels, positions = (torch.from_numpy(np.stack(column)) for column in zip(*rows, strict=True))
        return Microbatch(index, ids, labels, positions if isolated else None)
