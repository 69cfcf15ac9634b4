"""Tokens → blocks → microbatches, as pure functions of (seed, step).

Consecutive blocks overlap by one token: the last token of a block is also the first of the next, where it serves as
context only. So every target of the corpus is in exactly one block, and a block never exceeds the model's context. This
holds with packing, where blocks run across document boundaries, and without it, where every document has its own blocks.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

IGNORED = -100  # the label that torch's cross-entropy ignores


def block_spans(
    token_count: int, block_size: int, offsets: np.ndarray | None = None, *, shared_mark: bool = True
) -> np.ndarray:
    """Start and end of each block, (blocks, 2); a block's first token is context, the others are targets.

    Args:
        token_count: number of tokens in the corpus.
        block_size: tokens in a block; the last block, or with ``offsets`` each document's last block, can be shorter.
        offsets: (D,) position of each document's first token, to give every document its own blocks; None packs
            documents together. A document's first block starts with the special token before the document, from which
            its first token is predicted.
        shared_mark: the token that ends a document is also the one before the next document, as for GPT-2.
    """
    first = np.zeros(1, np.int64) if offsets is None else offsets - 1  # the stretches that are cut into blocks
    last = np.append(first[1:] - (0 if shared_mark else 1), token_count - 1)
    counts = np.maximum(0, -(-(last - first) // (block_size - 1)))
    index = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)  # of a block in its stretch
    starts = np.repeat(first, counts) + index * (block_size - 1)
    return np.stack([starts, np.minimum(starts + block_size, np.repeat(last, counts) + 1)], axis=1)


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


def epoch_order(seed: int, epoch: int, blocks: int) -> np.ndarray:
    """The random order in which an epoch visits the blocks: a permutation that depends on the seed and the epoch."""
    return np.random.default_rng([seed, epoch]).permutation(blocks)


@dataclass(frozen=True)
class TokenStream:
    """Tokenized documents, one after another.

    Attributes:
        ids: (T,) token ids: documents with the special tokens around them.
        offsets: (D,) position of each document's first own token, which its special token precedes.
        scored: (T,) 1 for targets, 0 for prompts and other tokens that are context only; None: all are targets.
        shared_mark: the token that ends a document is also the one before the next, as for GPT-2. Otherwise the token
            before a document is no target: a document is never expected to follow another.
    """

    ids: np.ndarray
    offsets: np.ndarray
    scored: np.ndarray | None = None
    shared_mark: bool = True

    def targets(self, span: np.ndarray) -> int:
        """Number of targets in a block; its first token is context."""
        if self.scored is None and self.shared_mark:
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

    def _labels(self, span: np.ndarray) -> np.ndarray:
        labels = self.ids[span[0] : span[1]].astype(np.int64)
        if self.scored is not None:
            labels[self.scored[span[0] : span[1]] == 0] = IGNORED
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


class GlobalBatches:
    """The blocks that each step trains on, independent of the number of processes.

    A global batch is a slice of its epoch's order; the last one of an epoch is short if the global batch size does not
    divide the number of blocks. It is split into a fixed number of microbatches, and each process takes a contiguous
    share of them.

    Args:
        stream: the tokenized documents.
        block_size: maximum number of tokens in a block.
        global_batch_size: blocks in a global batch.
        microbatch_size: blocks in a microbatch; must divide ``global_batch_size``.
        seed: random seed of the order of blocks, combined with the epoch.
        packing: "joined": documents run across the ends of blocks; "isolated": the same, and the documents in a block
            do not see each other; "none": every document has its own blocks.

    Attributes:
        blocks: number of blocks, which is the length of an epoch.
        microbatches: number of microbatches in a global batch.
        steps_per_epoch: number of global batches in an epoch.
    """

    def __init__(
        self,
        stream: TokenStream,
        *,
        block_size: int,
        global_batch_size: int,
        microbatch_size: int,
        seed: int,
        packing: str = "joined",
    ) -> None:
        assert global_batch_size % microbatch_size == 0, "TrainingConfig.problems reports this"
        self.stream, self.block_size, self.seed, self.packing = stream, block_size, seed, packing
        offsets = stream.offsets if packing == "none" else None
        self.spans = block_spans(len(stream.ids), block_size, offsets, shared_mark=stream.shared_mark)
        self.global_batch_size = global_batch_size
        self.microbatches = global_batch_size // microbatch_size
        self.blocks = len(self.spans)
        self.steps_per_epoch = -(-self.blocks // global_batch_size)
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0, np.int64))  # of the latest epoch, as a cache

    def indices(self, step: int) -> np.ndarray:
        """Indices of the blocks in the global batch of a step, in order; the first step is 1."""
        epoch, position = divmod(step - 1, self.steps_per_epoch)
        if self._order[0] != epoch:
            self._order = (epoch, epoch_order(self.seed, epoch, self.blocks))
        return self._order[1][position * self.global_batch_size : (position + 1) * self.global_batch_size]

    def targets(self, step: int) -> int:
        """Number of target tokens in the global batch of a step; every process computes the same number."""
        return sum(self.stream.targets(span) for span in self.spans[self.indices(step)])

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
