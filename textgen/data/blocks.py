"""Tokens → blocks → microbatches, as pure functions of (seed, step).

Consecutive blocks overlap by one token: the last token of a block is also the first of the next, where it serves as
context only. So every token of the corpus except the very first is the target of exactly one block, and a block never
exceeds the model's context. This holds with packing, where blocks run across document boundaries, and without it, where
every document has its own blocks.
"""

from collections.abc import Iterator

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


def block(tokens: np.ndarray, span: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """A block as (input_ids, labels), both int64 of shape (length,).

    Labels equal the inputs; the loss shifts them. A shorter block is padded on the right with token 0 and ignored
    labels: to the right of all targets, padding cannot influence them.
    """
    ids = np.zeros(length, np.int64)
    labels = np.full(length, IGNORED, np.int64)
    content = tokens[span[0] : span[1]]
    ids[: len(content)] = labels[: len(content)] = content
    return ids, labels


def epoch_order(seed: int, epoch: int, blocks: int) -> np.ndarray:
    """The random order in which an epoch visits the blocks: a permutation that depends on the seed and the epoch."""
    return np.random.default_rng([seed, epoch]).permutation(blocks)


class GlobalBatches:
    """The blocks that each step trains on, independent of the number of processes.

    A global batch is a slice of its epoch's order; the last one of an epoch is short if the global batch size does not
    divide the number of blocks. It is split into a fixed number of microbatches, and each process takes a contiguous
    share of them.

    Args:
        tokens: (T,) token ids.
        block_size: maximum number of tokens in a block.
        global_batch_size: blocks in a global batch.
        microbatch_size: blocks in a microbatch; must divide ``global_batch_size``.
        seed: random seed of the order of blocks, combined with the epoch.
        offsets: (D,) position of each document's first token, to give every document its own blocks; None packs
            documents together.
        shared_mark: see :func:`block_spans`.

    Attributes:
        blocks: number of blocks, which is the length of an epoch.
        microbatches: number of microbatches in a global batch.
        steps_per_epoch: number of global batches in an epoch.
    """

    def __init__(
        self,
        tokens: np.ndarray,
        *,
        block_size: int,
        global_batch_size: int,
        microbatch_size: int,
        seed: int,
        offsets: np.ndarray | None = None,
        shared_mark: bool = True,
    ) -> None:
        assert global_batch_size % microbatch_size == 0, "TrainingConfig.problems reports this"
        self.tokens, self.block_size, self.seed, self.packed = tokens, block_size, seed, offsets is None
        self.spans = block_spans(len(tokens), block_size, offsets, shared_mark=shared_mark)
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
        spans = self.spans[self.indices(step)]
        return int((spans[:, 1] - spans[:, 0] - 1).sum())

    def process_share(self, step: int, rank: int, world_size: int) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
        """This process's microbatches of a step, as (microbatch index, input_ids, labels), both tensors (rows, length).

        The length is the block size or, without packing, the length of the longest row. A short global batch is spread
        over the same number of microbatches; one that gets no blocks contains a single row without targets, so that
        all processes make the same number of forward and backward passes.
        """
        assert self.microbatches % world_size == 0, "TrainingConfig.problems reports this"
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
