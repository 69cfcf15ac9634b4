"""Which part of a mixture each position of a run comes from, computed position by position.

Positions are divided into periods. In every period each part has the same number of positions, in an order of the
period's own; the k-th of all its positions is position k of the part's own epochs. So each part is seen in full before
any of it comes again, and a position's block depends on nothing but the seed and the position.
"""

from collections.abc import Sequence

import numpy as np

from textgen.data.order import block_at


def blocks_at(positions: np.ndarray, *, blocks: Sequence[int], counts: Sequence[int], seed: int) -> np.ndarray:
    """The blocks at some positions; those of the second part are numbered after those of the first, and so on.

    With a single part, these are the epochs of :func:`textgen.data.order.block_at`, one after another.

    Args:
        positions: (n,) positions in the run, over all epochs, each at least 0.
        blocks: number of blocks of each part, each at least 1.
        counts: number of positions of each part in a period.
        seed: random seed, 0 or more.

    Returns:
        (n,) int64, indices of blocks.
    """
    part, number = draws_at(positions, counts=counts, seed=seed)
    found = np.empty(len(positions), np.int64)
    before = 0
    for index, size in enumerate(blocks):
        epochs = number // size
        for epoch in np.unique(epochs[part == index]):
            here = (part == index) & (epochs == epoch)
            order = block_at(number[here] % size, blocks=size, seed=seed, epoch=int(epoch), key=_key(index))
            found[here] = before + order
        before += size
    return found


def draws_at(positions: np.ndarray, *, counts: Sequence[int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The part that each position draws from, and how many earlier positions of the run draw from the same part.

    Arguments as for :func:`blocks_at`.

    Returns:
        Two arrays (n,), int64.
    """
    positions = np.asarray(positions, np.int64)
    if len(counts) == 1:
        return np.zeros_like(positions), positions
    part, number = np.empty_like(positions), np.empty_like(positions)
    periods, places = np.divmod(positions, sum(counts))
    for period in np.unique(periods):
        here = periods == period
        parts, earlier = _period(int(period), counts, seed)
        part[here] = parts[places[here]]
        number[here] = period * np.asarray(counts)[part[here]] + earlier[places[here]]
    return part, number


def drawn_before(position: int, *, counts: Sequence[int], seed: int) -> list[int]:
    """How many of the positions before this one draw from each part; other arguments as for :func:`blocks_at`."""
    period, place = divmod(position, sum(counts))
    parts, _ = _period(period, counts, seed)
    return [period * count + int((parts[:place] == index).sum()) for index, count in enumerate(counts)]


def _period(period: int, counts: Sequence[int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The part of each position in a period, and how many earlier positions of the period have the same part."""
    size = sum(counts)
    # The key of a period is the one of no part.
    slots = block_at(np.arange(size), blocks=size, seed=seed, epoch=period, key=_key(len(counts)))
    parts = np.searchsorted(np.cumsum(counts), slots, side="right")
    earlier = np.empty(size, np.int64)
    for index, count in enumerate(counts):
        earlier[parts == index] = np.arange(count)
    return parts, earlier


def _key(index: int) -> tuple[int, ...]:
    return (index,) if index else ()  # the first part has the order that it has alone
