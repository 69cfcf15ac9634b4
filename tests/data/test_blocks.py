"""Over an epoch, every target is trained on exactly once, on any number of processes."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from textgen.data.blocks import GROUP, IGNORED, BlockSpans, GlobalBatches, block, count_blocks
from textgen.data.order import block_at


class Layout(NamedTuple):
    """Tokens, batch sizes and processes. Each token id is its position, so that targets can be identified."""

    tokens: int
    block_size: int
    microbatch: int
    per_rank: int
    world_size: int
    seed: int
    starts: frozenset[int] | None  # of the second and later documents; None: packed

    def offsets(self) -> np.ndarray | None:
        if self.starts is None:
            return None
        return np.array(sorted({1} | {start for start in self.starts if start < self.tokens}), np.int64)

    def batches(self) -> GlobalBatches:
        return GlobalBatches(
            np.arange(self.tokens, dtype=np.uint16),
            block_size=self.block_size,
            global_batch_size=self.microbatch * self.per_rank * self.world_size,
            microbatch_size=self.microbatch,
            seed=self.seed,
            offsets=self.offsets(),
        )


layouts = st.builds(
    Layout,
    tokens=st.integers(2, 300),
    block_size=st.integers(2, 20),
    microbatch=st.integers(1, 4),
    per_rank=st.integers(1, 3),
    world_size=st.integers(1, 4),
    seed=st.integers(0, 2**63),
    starts=st.none() | st.frozensets(st.integers(2, 300), max_size=40),
)


def targets(labels: torch.Tensor) -> list[int]:
    scored = labels[:, 1:]
    return scored[scored != IGNORED].tolist()


def shares(
    batches: GlobalBatches, step: int, world_size: int
) -> Iterator[list[tuple[int, torch.Tensor, torch.Tensor]]]:
    return (list(batches.process_share(step, rank, world_size)) for rank in range(world_size))


@given(layouts)
def test_an_epoch_trains_on_every_target_once(layout):
    batches, trained_on = layout.batches(), []
    for step in range(1, batches.steps_per_epoch + 1):
        in_step = [t for share in shares(batches, step, layout.world_size) for _, _, y in share for t in targets(y)]
        assert batches.targets(step) == len(in_step)
        trained_on += in_step
    assert sorted(trained_on) == list(range(1, layout.tokens))


@given(layouts, st.integers(1, 50))
def test_the_global_batch_does_not_depend_on_the_number_of_processes(layout, step):
    batches = layout.batches()
    together = [piece for share in shares(batches, step, layout.world_size) for piece in share]
    alone = list(batches.process_share(step, 0, 1))
    assert [index for index, _, _ in together] == [index for index, _, _ in alone] == list(range(batches.microbatches))
    for (_, ids, labels), (_, alone_ids, alone_labels) in zip(together, alone, strict=True):
        assert torch.equal(ids, alone_ids)
        assert torch.equal(labels, alone_labels)


@given(layouts, st.integers(1, 50))
def test_every_process_makes_the_same_number_of_passes_over_blocks_that_fit(layout, step):
    for share in shares(layout.batches(), step, layout.world_size):
        assert len(share) == layout.per_rank
        for _, ids, labels in share:
            assert ids.shape == labels.shape
            assert 1 <= ids.shape[0] <= layout.microbatch
            assert (
                ids.shape[1] == layout.block_size if layout.starts is None else 2 <= ids.shape[1] <= layout.block_size
            )
            assert ids.dtype == labels.dtype == torch.int64


@given(layouts)
def test_a_target_is_predicted_from_the_tokens_right_before_it(layout):
    tokens = np.arange(layout.tokens, dtype=np.uint16)
    for span in BlockSpans(layout.tokens, layout.block_size, layout.offsets()):
        ids, labels = block(tokens, span, layout.block_size)
        scored = labels != IGNORED
        assert (ids[scored] == labels[scored]).all()
        assert (np.diff(ids[scored]) == 1).all()
        assert not scored[scored.sum() :].any(), "padding is to the right of every target"
        assert span[1] - span[0] == scored.sum() >= 2


@given(layouts)
def test_without_packing_no_block_continues_into_the_next_document(layout):
    offsets = layout.offsets()
    spans = BlockSpans(layout.tokens, layout.block_size, offsets)
    if offsets is None:
        assert len(spans) == -(-(layout.tokens - 1) // (layout.block_size - 1)), (
            "with packing, only the last block can be short"
        )
        return
    owner = np.searchsorted(offsets - 1, np.arange(layout.tokens), side="left") - 1  # of each target
    for start, end in spans:
        assert len(set(owner[start + 1 : end])) == 1


def test_blocks_by_hand():
    tokens = np.array([5, 6, 7, 8, 9, 10], np.uint16)
    assert [block(tokens, span, 4)[0].tolist() for span in BlockSpans(6, 4)] == [[5, 6, 7, 8], [8, 9, 10, 0]]
    assert block(tokens, BlockSpans(6, 4)[1], 4)[1].tolist() == [8, 9, 10, IGNORED]
    assert [len(BlockSpans(n, 4)) for n in (0, 1, 2, 4, 5, 7, 8)] == [0, 0, 1, 1, 2, 2, 3]


@given(layouts, st.lists(st.integers(1, 60), min_size=1, max_size=8))
def test_a_step_does_not_depend_on_the_steps_before_it(layout, steps):
    reused = layout.batches()
    for step in steps:
        assert reused.indices(step).tolist() == layout.batches().indices(step).tolist()


@given(layouts, st.data())
def test_spans_are_the_same_one_at_a_time_and_together(layout, data):
    offsets = layout.offsets()
    counts = None if offsets is None else count_blocks(layout.tokens, layout.block_size, offsets)
    spans = BlockSpans(layout.tokens, layout.block_size, offsets, block_counts=counts)
    expected = spans_by_definition(layout.tokens, layout.block_size, offsets)
    assert [tuple(span) for span in spans] == expected
    indices = data.draw(st.lists(st.integers(0, len(expected) - 1)))
    assert spans[np.array(indices, np.int64)].tolist() == [list(expected[i]) for i in indices]
    assert spans[-1].tolist() == list(expected[-1])
    with pytest.raises(IndexError):
        spans[len(expected)]


def spans_by_definition(tokens: int, block_size: int, offsets: np.ndarray | None) -> list[tuple[int, int]]:
    starts = [0] if offsets is None else [int(offset) - 1 for offset in offsets]
    ends = [*starts[1:], tokens - 1]
    return [
        (first, min(first + block_size, end + 1))
        for start, end in zip(starts, ends, strict=True)
        for first in range(start, end, block_size - 1)
    ]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5 * GROUP), st.integers(2, 6))
def test_blocks_of_many_documents_are_counted_in_groups(lengths, block_size):
    offsets = 1 + np.cumsum([0, *lengths])[:-1]
    tokens = 1 + sum(lengths)
    counts = count_blocks(tokens, block_size, offsets)
    expected = spans_by_definition(tokens, block_size, offsets)
    assert len(counts) == -(-len(lengths) // GROUP) + 1
    for group, count in enumerate(counts[:-1]):
        assert count == sum(start < offsets[group * GROUP] - 1 for start, _ in expected)
    assert counts[-1] == len(expected)
    assert [tuple(span) for span in BlockSpans(tokens, block_size, offsets, block_counts=counts)] == expected


def test_a_short_batch_at_the_end_of_an_epoch_is_spread_over_all_microbatches():
    batches = GlobalBatches(np.arange(31), block_size=4, global_batch_size=8, microbatch_size=2, seed=0)
    assert (batches.blocks, batches.steps_per_epoch, batches.microbatches) == (10, 2, 4)
    rows = [len(labels) for _, _, labels in batches.process_share(2, 0, 1)]
    counts = [len(targets(labels)) for _, _, labels in batches.process_share(2, 0, 1)]
    assert rows == [1, 1, 1, 1]
    assert counts == [3, 3, 0, 0], "two blocks are left; the other microbatches are a row without targets"
    assert batches.indices(3).tolist() == block_at(np.arange(8), blocks=10, seed=0, epoch=1).tolist()


def test_a_batch_that_does_not_divide_is_an_internal_error():
    with pytest.raises(AssertionError):
        GlobalBatches(np.arange(9), block_size=3, global_batch_size=4, microbatch_size=3, seed=0)
    batches = GlobalBatches(np.arange(9), block_size=3, global_batch_size=4, microbatch_size=2, seed=0)
    with pytest.raises(AssertionError):
        list(batches.process_share(1, 0, 4))
