"""``--block-size auto``: as long as the model's context and the amount of data allow."""

import numpy as np

LONGEST = 1024
SHORTEST = 128
STEPS_PER_EPOCH = 100


def block_size_for_examples(length_counts: np.ndarray, context: int) -> int:
    """The smallest power of two, from 128 to 1,024, that 95 % of the examples fit into; at most the context.

    Args:
        length_counts: (L,) number of examples by tokens; the last element may also count longer ones.
        context: maximum number of tokens that the model reads at once.
    """
    total, size = length_counts.sum(), SHORTEST
    while size < LONGEST and 20 * length_counts[: size + 1].sum() < 19 * total:
        size *= 2
    return min(size, context)


def auto_block_size(context: int, *, tokens: int, global_batch_size: int) -> int:
    """The largest power of two, up to 1,024, that fits the context and leaves an epoch at least 100 steps long.

    Longer blocks are cut less often and use more of the context, but a step takes as many blocks, so that a small
    corpus would be trained on in a few steps. With little data the size is 128; a shorter context or corpus is one
    block.

    Args:
        context: maximum number of tokens that the model reads at once.
        tokens: number of training tokens.
        global_batch_size: blocks in a step.
    """
    size = LONGEST
    while size > SHORTEST and (size > context or tokens < STEPS_PER_EPOCH * global_batch_size * size):
        size //= 2
    return min(size, context, max(2, tokens))
