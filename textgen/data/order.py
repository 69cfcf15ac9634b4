"""The random order of an epoch, computed position by position: no array, whatever the size of the corpus.

A Feistel network turns a key into a permutation of the numbers with an even number of bits: each round replaces
(left, right) by (right, left XOR a function of right and the key), which can be undone, whatever the function (Luby and
Rackoff 1988). To permute fewer numbers than that, results that are too large are put through the network again until
they fit, which every number eventually does, each in a place of its own ("cycle walking", Black and Rogaway 2002).
"""

import numpy as np

ORDER = "feistel-12"
"""Name of this order; part of every checkpoint, since a run cannot change its order halfway."""

_ROUNDS = 12  # 4 suffice for many blocks; with 12, all orders of five blocks are about equally frequent too


def block_at(positions: np.ndarray, *, blocks: int, seed: int, epoch: int, key: tuple[int, ...] = ()) -> np.ndarray:
    """The blocks that an epoch visits at some positions: a permutation that depends on the seed and the epoch.

    Args:
        positions: (n,) positions in the epoch, each at least 0 and less than ``blocks``.
        blocks: number of blocks, the length of the epoch.
        seed: random seed, 0 or more.
        epoch: number of the epoch, the first being 0.
        key: tells apart orders with the same seed and epoch.

    Returns:
        (n,) int64, indices of blocks.
    """
    keys = np.random.SeedSequence([seed, epoch], spawn_key=key).generate_state(_ROUNDS, np.uint64)
    half = max(1, ((blocks - 1).bit_length() + 1) // 2)  # bits in each half
    found = _feistel(np.asarray(positions, np.uint64), keys, half)
    while (outside := found >= blocks).any():
        found[outside] = _feistel(found[outside], keys, half)
    return found.astype(np.int64)


def _feistel(numbers: np.ndarray, keys: np.ndarray, half: int) -> np.ndarray:
    mask, shift = np.uint64((1 << half) - 1), np.uint64(half)
    left, right = numbers >> shift, numbers & mask
    for key in keys:
        left, right = right, left ^ (_mix(right ^ key) & mask)
    return (left << shift) | right


def _mix(numbers: np.ndarray) -> np.ndarray:
    """The finalizer of SplitMix64 (Steele, Lea and Flood 2014): every bit of the input changes half of the output."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))
