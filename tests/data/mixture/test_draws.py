"""Every position draws from one part, in exact proportions, and every part is drawn from in its own order."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from textgen.data.mixture.draws import blocks_at, drawn_before, draws_at
from textgen.data.order import block_at

SEEDS = st.integers(0, 2**63 - 1)
COUNTS = st.lists(st.integers(1, 50), min_size=1, max_size=5)


@given(COUNTS, SEEDS, st.integers(0, 2**40))
def test_every_period_draws_from_each_part_in_its_proportion(counts, seed, period):
    size = sum(counts)
    part, number = draws_at(period * size + np.arange(size), counts=counts, seed=seed)
    for index, count in enumerate(counts):
        first = period * size if len(counts) == 1 else period * count
        expected = np.arange(first, first + (size if len(counts) == 1 else count))
        assert np.array_equal(number[part == index], expected)  # ascending: in the order of the positions


@given(COUNTS, SEEDS, st.integers(0, 1000))
def test_the_number_of_draws_is_known_in_advance(counts, seed, position):
    part, _ = draws_at(np.arange(position), counts=counts, seed=seed)
    assert drawn_before(position, counts=counts, seed=seed) == [int((part == i).sum()) for i in range(len(counts))]


@given(COUNTS, SEEDS, st.data())
def test_each_part_is_seen_in_full_before_any_of_it_comes_again(counts, seed, data):
    blocks = data.draw(st.lists(st.integers(1, 60), min_size=len(counts), max_size=len(counts)))
    found = blocks_at(np.arange(400), blocks=blocks, counts=counts, seed=seed)
    begin = 0
    for size in blocks:
        own = found[(found >= begin) & (found < begin + size)]
        for epoch in range(0, len(own), size):
            seen = Counter(own[epoch : epoch + size].tolist())
            assert max(seen.values()) == 1
            assert len(own) - epoch < size or len(seen) == size
        begin += size
    assert begin > found.max()


@given(COUNTS, SEEDS, st.lists(st.integers(0, 2**40), min_size=1, max_size=20))
def test_a_position_can_be_asked_for_alone(counts, seed, positions):
    blocks = [7 + 3 * i for i in range(len(counts))]
    together = blocks_at(np.array(positions), blocks=blocks, counts=counts, seed=seed)
    alone = [blocks_at(np.array([p]), blocks=blocks, counts=counts, seed=seed)[0] for p in positions]
    assert together.tolist() == alone


@given(st.integers(1, 200), SEEDS)
def test_a_single_part_has_the_epochs_of_a_single_source(blocks, seed):
    expected = [block_at(np.arange(blocks), blocks=blocks, seed=seed, epoch=epoch) for epoch in range(3)]
    found = blocks_at(np.arange(3 * blocks), blocks=[blocks], counts=[1], seed=seed)
    assert np.array_equal(found, np.concatenate(expected))


def test_the_parts_are_in_a_random_order_that_differs_between_periods_and_seeds():
    def parts(period: int, seed: int) -> np.ndarray:
        return draws_at(period * 1000 + np.arange(1000), counts=[700, 300], seed=seed)[0]

    orders = [parts(period, seed) for period in (0, 1) for seed in (0, 1)]
    assert len({order.tobytes() for order in orders}) == 4
    for order in orders:
        assert order[:500].sum() == pytest.approx(150, abs=40)


def test_the_order_is_the_same_as_in_earlier_versions():
    # With another order, runs could not resume from the checkpoints of earlier versions.
    found = blocks_at(np.arange(12), blocks=[4, 3], counts=[2, 1], seed=0)
    assert found.tolist() == [0, 1, 5, 2, 4, 3, 6, 0, 3, 1, 4, 2]
