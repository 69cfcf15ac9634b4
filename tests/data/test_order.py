"""The order of an epoch is a permutation, a random one, and always the same."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from textgen.data.order import block_at

SEEDS = st.integers(0, 2**63 - 1)


def order(blocks: int, seed: int = 0, epoch: int = 0) -> list[int]:
    return block_at(np.arange(blocks), blocks=blocks, seed=seed, epoch=epoch).tolist()


@given(st.integers(1, 3000), SEEDS, st.integers(0, 100))
def test_every_block_comes_once(blocks, seed, epoch):
    assert sorted(order(blocks, seed, epoch)) == list(range(blocks))


@pytest.mark.parametrize("blocks", [1, 2, 3, 4, 5, 15, 16, 17, 255, 256, 257, (1 << 16) - 1, 1 << 16, (1 << 16) + 1])
def test_every_block_comes_once_around_powers_of_two(blocks):
    assert sorted(order(blocks)) == list(range(blocks))


@given(st.integers(2**20, 2**45), SEEDS, st.lists(st.integers(0, 2**20 - 1), unique=True, max_size=30))
def test_any_position_of_a_large_epoch_can_be_asked_for(blocks, seed, positions):
    together = block_at(np.array(positions, np.int64), blocks=blocks, seed=seed, epoch=3)
    alone = [int(block_at(np.array([p]), blocks=blocks, seed=seed, epoch=3)[0]) for p in positions]
    assert together.tolist() == alone
    assert len(set(alone)) == len(alone)
    assert all(0 <= block < blocks for block in alone)


def test_the_order_changes_with_the_epoch_and_the_seed():
    assert len({tuple(order(50, seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4


def test_the_order_changes_with_the_key():
    orders = [block_at(np.arange(50), blocks=50, seed=0, epoch=0, key=key).tolist() for key in ((), (1,), (2,))]
    assert all(sorted(one) == list(range(50)) for one in orders)
    assert orders[0] != orders[1] != orders[2] != orders[0]


def test_the_order_is_the_same_as_in_earlier_versions():
    # With another order, runs could not resume from the checkpoints of earlier versions.
    assert order(8) == [5, 6, 7, 2, 1, 4, 0, 3]


@pytest.mark.parametrize("blocks", [2, 3, 4, 5])
def test_all_orders_of_a_few_blocks_are_equally_frequent(blocks):
    orders, repetitions = math.factorial(blocks), 50
    drawn = Counter(tuple(order(blocks, seed)) for seed in range(orders * repetitions))
    chi_squared = sum((count - repetitions) ** 2 / repetitions for count in drawn.values())
    assert len(drawn) == orders
    assert chi_squared < orders - 1 + 5 * math.sqrt(2 * orders)


def test_positions_and_blocks_are_uncorrelated():
    blocks = 5000
    visited = np.array(order(blocks))
    assert abs(np.corrcoef(np.arange(blocks), visited)[0, 1]) < 4 / math.sqrt(blocks)
    assert abs(np.corrcoef(visited[1:], visited[:-1])[0, 1]) < 4 / math.sqrt(blocks)
    ascending = (np.diff(visited) > 0).mean()
    assert abs(ascending - 0.5) < 0.02
    assert (visited[:500] < 500).sum() == pytest.approx(50, abs=30)
