"""Over an epoch, every target is trained on exactly once, on any number of processes."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from textgen.data.blocks import GROUP, BlockSpans, GlobalBatches, count_blocks
from textgen.data.mixture.streams import MixedStream
from textgen.data.order import block_at
from textgen.data.token_stream import IGNORED, Microbatch, TokenStream


class Layout(NamedTuple):
    """Tokens, batch sizes and processes. Each token id is its position, so that targets can be identified."""

    tokens: int
    block_size: int
    microbatch: int
    per_rank: int
    world_size: int
    seed: int
    packing: str
    starts: frozenset[int]  # of the second and later documents
    context_only: frozenset[int]  # tokens that are no targets

    def offsets(self) -> np.ndarray:
        return np.array(sorted({1} | {start for start in self.starts if start < self.tokens}), np.int64)

    def spans(self) -> BlockSpans:
        return BlockSpans(self.tokens, self.block_size, self.offsets() if self.packing == "none" else None)

    def stream(self) -> TokenStream:
        edges = [edge for token in sorted(self.context_only) if token < self.tokens for edge in (token, token + 1)]
        return TokenStream(np.arange(self.tokens, dtype=np.uint16), self.offsets(), np.array(edges, np.int64))

    def batches(self) -> GlobalBatches:
        return GlobalBatches(
            self.stream(),
            block_size=self.block_size,
            global_batch_size=self.microbatch * self.per_rank * self.world_size,
            microbatch_size=self.microbatch,
            seed=self.seed,
            packing=self.packing,
        )


layouts = st.builds(
    Layout,
    tokens=st.integers(2, 300),
    block_size=st.integers(2, 20),
    microbatch=st.integers(1, 4),
    per_rank=st.integers(1, 3),
    world_size=st.integers(1, 4),
    seed=st.integers(0, 2**63),
    packing=st.sampled_from(["joined", "isolated", "none"]),
    starts=st.frozensets(st.integers(2, 300), max_size=40),
    context_only=st.frozensets(st.integers(0, 300), max_size=40),
)


def plain(tokens: int) -> TokenStream:
    return TokenStream(np.arange(tokens), np.array([1]))


def targets(labels: torch.Tensor) -> list[int]:
    scored = labels[:, 1:]
    return scored[scored != IGNORED].tolist()


def shares(batches: GlobalBatches, step: int, world_size: int) -> Iterator[list[Microbatch]]:
    return (list(batches.process_share(step, rank, world_size)) for rank in range(world_size))


@given(layouts)
def test_an_epoch_trains_on_every_target_once(layout):
    batches, trained_on = layout.batches(), []
    for step in range(1, batches.steps_per_epoch + 1):
        in_step = [t for share in shares(batches, step, layout.world_size) for m in share for t in targets(m.labels)]
        assert batches.targets(step) == len(in_step)
        trained_on += in_step
    assert sorted(trained_on) == sorted(set(range(1, layout.tokens)) - layout.context_only)


@given(layouts, st.integers(1, 50))
def test_the_global_batch_does_not_depend_on_the_number_of_processes(layout, step):
    batches = layout.batches()
    together = [piece for share in shares(batches, step, layout.world_size) for piece in share]
    alone = list(batches.process_share(step, 0, 1))
    assert [m.index for m in together] == [m.index for m in alone] == list(range(batches.microbatches))
    for one, other in zip(together, alone, strict=True):
        inputs, expected = one.inputs(torch.device("cpu")), other.inputs(torch.device("cpu"))
        assert len(inputs) == len(expected) == (3 if layout.packing == "isolated" else 2)
        assert all(map(torch.equal, inputs, expected))


@given(layouts, st.integers(1, 50))
def test_every_process_makes_the_same_number_of_passes_over_blocks_that_fit(layout, step):
    for share in shares(layout.batches(), step, layout.world_size):
        assert len(share) == layout.per_rank
        for microbatch in share:
            inputs = microbatch.inputs(torch.device("cpu"))
            rows, length = microbatch.input_ids.shape
            assert {tuple(tensor.shape) for tensor in inputs} == {(rows, length)}
            assert {tensor.dtype for tensor in inputs} == {torch.int64}
            assert 1 <= rows <= layout.microbatch
            assert 2 <= length <= layout.block_size
            assert layout.packing == "none" or length == layout.block_size


@given(layouts)
def test_a_target_is_predicted_from_the_tokens_right_before_it(layout):
    for span in layout.spans():
        ids, labels, _ = layout.stream().block(span, layout.block_size)
        size = span[1] - span[0]
        assert ids.tolist() == [*range(*span), *[0] * (layout.block_size - size)]
        scored = [IGNORED if token in layout.context_only else token for token in range(*span)]
        assert labels.tolist() == [*scored, *[IGNORED] * (layout.block_size - size)], "padding is on the right"
        assert size >= 2


@given(layouts)
def test_without_packing_no_block_continues_into_the_next_document(layout):
    spans = layout.spans()
    if layout.packing != "none":
        expected = -(-(layout.tokens - 1) // (layout.block_size - 1))
        assert len(spans) == expected, "with packing, only the last block can be short"
        return
    owner = np.searchsorted(layout.offsets() - 1, np.arange(layout.tokens), side="left") - 1  # of each target
    for start, end in spans:
        assert len(set(owner[start + 1 : end])) == 1


@given(layouts)
def test_isolated_positions_start_again_at_the_token_before_each_document(layout):
    starts = set((layout.offsets() - 1).tolist())
    for span in layout.spans():
        _, _, positions = layout.stream().block(span, layout.block_size, isolated=True)
        expected = 0
        for index, token in enumerate(range(span[0], span[0] + layout.block_size)):
            expected = 0 if index == 0 or (token in starts and token < span[1]) else expected + 1
            assert positions[index] == expected


def test_blocks_by_hand():
    stream = TokenStream(np.array([5, 6, 7, 8, 9, 10], np.uint16), np.array([1]))
    blocks = [stream.block(span, 4) for span in BlockSpans(6, 4)]
    assert [ids.tolist() for ids, _, _ in blocks] == [[5, 6, 7, 8], [8, 9, 10, 0]]
    assert blocks[1][1].tolist() == [8, 9, 10, IGNORED]
    assert [len(BlockSpans(n, 4)) for n in (0, 1, 2, 4, 5, 7, 8)] == [0, 0, 1, 1, 2, 2, 3]


@given(layouts, st.lists(st.integers(1, 60), min_size=1, max_size=8))
def test_a_step_does_not_depend_on_the_steps_before_it(layout, steps):
    reused = layout.batches()
    for step in steps:
        assert reused.indices(step).tolist() == layout.batches().indices(step).tolist()


@given(layouts, st.data())
def test_spans_are_the_same_one_at_a_time_and_together(layout, data):
    offsets = layout.offsets() if layout.packing == "none" else None
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
    batches = GlobalBatches(plain(31), block_size=4, global_batch_size=8, microbatch_size=2, seed=0)
    assert (batches.blocks, batches.steps_per_epoch, batches.microbatches) == (10, 2, 4)
    rows = [len(m.labels) for m in batches.process_share(2, 0, 1)]
    counts = [len(targets(m.labels)) for m in batches.process_share(2, 0, 1)]
    assert rows == [1, 1, 1, 1]
    assert counts == [3, 3, 0, 0], "two blocks are left; the other microbatches are a row without targets"
    assert batches.indices(3).tolist() == block_at(np.arange(8), blocks=10, seed=0, epoch=1).tolist()


def test_a_batch_that_does_not_divide_is_an_internal_error():
    with pytest.raises(AssertionError):
        GlobalBatches(plain(9), block_size=3, global_batch_size=4, microbatch_size=3, seed=0)
    batches = GlobalBatches(plain(9), block_size=3, global_batch_size=4, microbatch_size=2, seed=0)
    with pytest.raises(AssertionError):
        list(batches.process_share(1, 0, 4))


class MixedLayout(NamedTuple):
    """Tokens and weights of the parts of a mixture. Each part's token ids begin at another number."""

    tokens: tuple[int, ...]
    counts: tuple[int, ...]
    seed: int
    packing: str

    def batches(self) -> GlobalBatches:
        parts = tuple(
            TokenStream(1000 * i + np.arange(n, dtype=np.uint16), np.arange(1, n, 5)) for i, n in enumerate(self.tokens)
        )
        mixed = MixedStream(parts, self.counts[: len(parts)])
        return GlobalBatches(
            mixed, block_size=4, global_batch_size=8, microbatch_size=2, seed=self.seed, packing=self.packing
        )  # fmt: skip


mixed_layouts = st.builds(
    MixedLayout,
    tokens=st.lists(st.integers(2, 200), min_size=2, max_size=4).map(tuple),
    counts=st.tuples(*[st.integers(1, 20)] * 4),
    seed=st.integers(0, 2**63),
    packing=st.sampled_from(["joined", "isolated", "none"]),
)


@given(mixed_layouts, st.integers(1, 60))
def test_the_ledger_of_a_mixture(layout, steps):
    """Over a run: exact proportions in each period, and each part's blocks once in each of its own epochs."""
    batches = layout.batches()
    blocks, counts = batches.spans.blocks, layout.counts[: len(layout.tokens)]
    drawn = np.concatenate([batches.indices(step) for step in range(1, steps + 1)])
    part = np.searchsorted(np.cumsum(blocks), drawn, side="right")
    size = sum(counts)
    for period in range(len(drawn) // size):
        assert tuple(np.bincount(part[period * size : (period + 1) * size], minlength=len(counts))) == counts
    for index, (number, epochs) in enumerate(zip(blocks, batches.epochs_of_parts(steps), strict=True)):
        own = drawn[part == index]
        assert len(own) == pytest.approx(epochs * number)
        for begin in range(0, len(own), number):
            epoch = own[begin : begin + number]
            assert len(set(epoch.tolist())) == len(epoch)


@given(mixed_layouts, st.integers(1, 10**6), st.sampled_from([1, 2, 4]))
def test_a_step_of_a_mixture_is_the_same_after_resuming_and_on_any_number_of_processes(layout, step, processes):
    first = layout.batches()
    for earlier in range(max(1, step - 3), step):
        list(first.process_share(earlier, 0, 1))
    alone = list(first.process_share(step, 0, 1))
    together = [piece for share in shares(layout.batches(), step, processes) for piece in share]  # from this step on
    for one, other in zip(together, alone, strict=True):
        assert one.index == other.index
        assert all(map(torch.equal, one.inputs(torch.device("cpu")), other.inputs(torch.device("cpu"))))
    assert first.targets(step) == sum(len(targets(m.labels)) for m in alone)
