"""Tokens → blocks → microbatches, as pure functions of (seed, step).

Blocks overlap by one token: the last token of a block is the first of the next, where it serves as context only. So
every token of the corpus but the very first is the target of exactly one block, and a block never exceeds the context.
"""

from collections.abc import Iterator

import numpy as np
import torch

IGNORED = -100  # the label that torch's cross-entropy skips


def block_count(tokens: int, block_size: int) -> int:
    """Blocks in a run of tokens, the last, shorter one included."""
    return max(0, -(-(tokens - 1) // (block_size - 1)))


def block(tokens: np.ndarray, index: int, block_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Block ``index`` as (input_ids, labels), both int64 of shape (block_size,).

    Labels equal the input; it is the loss that shifts them. A short last block is filled up with token 0 under ignored
    labels: to the right of all targets, the filling cannot influence them.
    """
    start = index * (block_size - 1)
    ids = np.zeros(block_size, np.int64)
    labels = np.full(block_size, IGNORED, np.int64)
    piece = tokens[start : start + block_size]
    ids[: len(piece)] = labels[: len(piece)] = piece
    return ids, labels


def targets_in_block(tokens: int, index: int, block_size: int) -> int:
    """How many tokens of block ``index`` are scored."""
    return min(block_size, tokens - index * (block_size - 1)) - 1


def epoch_order(seed: int, epoch: int, blocks: int) -> np.ndarray:
    """The permutation of the blocks in which an epoch visits them."""
    return np.random.default_rng([seed, epoch]).permutation(blocks)


class GlobalBatches:
    """The blocks that each step trains on, whatever the number of processes.

    A global batch is a slice of its epoch's order; the last of an epoch is short if the blocks do not divide. It is cut
    into a fixed number of microbatches, of which a process takes a contiguous share.

    Args:
        tokens: (T,) token ids.
        block_size: tokens in a block.
        global_batch_size: blocks in a global batch.
        microbatch_size: blocks in a microbatch; divides ``global_batch_size``.
        seed: decides the order, together with the epoch.
    """

    def __init__(
        self, tokens: np.ndarray, *, block_size: int, global_batch_size: int, microbatch_size: int, seed: int
    ) -> None:
        assert global_batch_size % microbatch_size == 0, "checked when the configuration was"
        self.tokens, self.block_size, self.seed = tokens, block_size, seed
        self.global_batch_size = global_batch_size
        self.microbatches = global_batch_size // microbatch_size
        self.blocks = block_count(len(tokens), block_size)
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
        return sum(targets_in_block(len(self.tokens), int(i), self.block_size) for i in self.indices(step))

    def share(self, step: int, rank: int, world_size: int) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
        """This process's microbatches of a step, as (microbatch index, input_ids, labels), each (rows, block_size).

        In a short global batch the rows are spread over the same number of microbatches. One that gets none holds a
        single row without targets, so that all processes make the same number of passes.
        """
        assert self.microbatches % world_size == 0, "checked when the configuration was"
        per_rank = self.microbatches // world_size
        parts = np.array_split(self.indices(step), self.microbatches)
        for i in range(rank * per_rank, (rank + 1) * per_rank):
            rows = [block(self.tokens, int(index), self.block_size) for index in parts[i]]
            if not rows:
                rows = [(np.zeros(self.block_size, np.int64), np.full(self.block_size, IGNORED, np.int64))]
            ids, labels = (torch.from_numpy(np.stack(column)) for column in zip(*rows, strict=True))
            yield i, ids, labels
