"""Tokens → blocks → microbatches, as pure functions of (seed, step).

Blocks overlap by one token: the last token of a block is the first of the next, where it serves as context only. So
every token of the corpus but the very first is the target of exactly one block, and a block never exceeds the context.
That holds with packing, where a block takes what comes, and without, where none goes on into the next document.
"""

from collections.abc import Iterator

import numpy as np
import torch

IGNORED = -100  # the label that torch's cross-entropy skips


def block_spans(tokens: int, block_size: int, documents: np.ndarray | None = None) -> np.ndarray:
    """Where blocks begin and end: (blocks, 2), of which the first token is context and the others are targets.

    Args:
        tokens: how many there are.
        block_size: tokens in a block; the last of a stretch is shorter.
        documents: (D,) where each document's first token stands, if none shall share a block with another. A
            document's stretch begins with the separator before it, which is what its first token is predicted from.
    """
    first = np.zeros(1, np.int64) if documents is None else documents - 1
    last = np.append(first[1:], tokens - 1)
    counts = np.maximum(0, -(-(last - first) // (block_size - 1)))
    place = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)  # of a block in its stretch
    starts = np.repeat(first, counts) + place * (block_size - 1)
    return np.stack([starts, np.minimum(starts + block_size, np.repeat(last, counts) + 1)], axis=1)


def block(tokens: np.ndarray, span: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """A block as (input_ids, labels), both int64 of shape (length,).

    Labels equal the input; it is the loss that shifts them. A shorter block is filled up with token 0 under ignored
    labels: to the right of all targets, the filling cannot influence them.
    """
    ids = np.zeros(length, np.int64)
    labels = np.full(length, IGNORED, np.int64)
    piece = tokens[span[0] : span[1]]
    ids[: len(piece)] = labels[: len(piece)] = piece
    return ids, labels


def epoch_order(seed: int, epoch: int, blocks: int) -> np.ndarray:
    """The permutation of the blocks in which an epoch visits them."""
    return np.random.default_rng([seed, epoch]).permutation(blocks)


class GlobalBatches:
    """The blocks that each step trains on, whatever the number of processes.

    A global batch is a slice of its epoch's order; the last of an epoch is short if the blocks do not divide. It is cut
    into a fixed number of microbatches, of which a process takes a contiguous share.

    Args:
        tokens: (T,) token ids.
        block_size: tokens in a block, at most.
        global_batch_size: blocks in a global batch.
        microbatch_size: blocks in a microbatch; divides ``global_batch_size``.
        seed: decides the order, together with the epoch.
        documents: (D,) where each document begins, to give each blocks of its own; packed if not given.
    """

    def __init__(
        self,
        tokens: np.ndarray,
        *,
        block_size: int,
        global_batch_size: int,
        microbatch_size: int,
        seed: int,
        documents: np.ndarray | None = None,
    ) -> None:
        assert global_batch_size % microbatch_size == 0, "checked when the configuration was"
        self.tokens, self.block_size, self.seed, self.packed = tokens, block_size, seed, documents is None
        self.spans = block_spans(len(tokens), block_size, documents)
        self.global_batch_size = global_batch_size
        self.microbatches = global_batch_size // microbatch_size
        self.blocks = len(self.spans)
        self.steps_per_epoch = -(-self.blocks // global_batch_size)
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0, np.int64))

    def indices(self, step: int) -> np.ndarray:
        """The blocks of step ``step`` (steps count from 1), in order."""
        epoch, position = divmod(step - 1, self.steps_per_epoch)
        if self._order[0] != epoch:
            self._order = (epoch, epoch_order(self.seed, epoch, self.blocks))
        return self._order[1][position * self.global_batch_size : (position + 1) * self.global_batch_size]

    def targets(self, step: int) -> int:
        """Target tokens in the global batch of a step; every process computes the same number."""
        spans = self.spans[self.indices(step)]
        return int((spans[:, 1] - spans[:, 0] - 1).sum())

    def share(self, step: int, rank: int, world_size: int) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
        """This process's microbatches of a step, as (microbatch index, input_ids, labels), each (rows, length).

        The length is the block size, or without packing that of the longest row. In a short global batch the rows are
        spread over the same number of microbatches. One that gets none holds a single row without targets, so that all
        processes make the same number of passes.
        """
        assert self.microbatches % world_size == 0, "checked when the configuration was"
        per_rank = self.microbatches // world_size
        parts = np.array_split(self.indices(step), self.microbatches)
        for i in range(rank * per_rank, (rank + 1) * per_rank):
            spans = self.spans[parts[i]]
            if not len(spans):
                ids = torch.zeros(1, self.block_size, dtype=torch.long)
                yield i, ids, torch.full_like(ids, IGNORED)
                continue
            length = self.block_size if self.packed else int((spans[:, 1] - spans[:, 0]).max())
            rows = [block(self.tokens, span, length) for span in spans]
            ids, labels = (torch.from_numpy(np.stack(column)) for column in zip(*rows, strict=True))
            yield i, ids, labels
