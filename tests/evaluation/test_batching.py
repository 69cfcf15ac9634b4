"""Properties of batch plans, and of dividing batches among processes."""

from contextlib import contextmanager
from itertools import pairwise
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from textgen.evaluation import batching
from textgen.evaluation.batching import pack_batches, same_length_batches, share_batches, share_progress, share_runs


def process(rank: int, of: int) -> SimpleNamespace:
    return SimpleNamespace(process_index=rank, num_processes=of)


@st.composite
def spans(draw) -> list[tuple[int, int]]:
    """Positions (start, end), none of them empty."""
    ends = draw(st.lists(st.integers(1, 50), max_size=30))
    return [(draw(st.integers(0, end - 1)), end) for end in ends]


@given(st.integers(0, 40), st.integers(1, 9))
def test_every_batch_belongs_to_one_process_and_shares_differ_by_one_at_most(count, processes):
    batches = [object() for _ in range(count)]
    shares = [list(share_batches(process(rank, processes), batches)) for rank in range(processes)]
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= 1
    pairs = [pair for share in shares for pair in share]
    assert sorted(index for index, _ in pairs) == list(range(count))
    assert all(batches[index] is batch for index, batch in pairs)


@given(st.lists(st.integers(1, 50), max_size=60), st.integers(1, 9))
def test_runs_contain_every_item_once_in_order_and_are_about_equal(sizes, processes):
    runs = share_runs(sizes, processes)
    assert len(runs) == processes
    assert [index for run in runs for index in run] == list(range(len(sizes)))
    fair = sum(sizes) / processes
    assert all(abs(sum(sizes[index] for index in run) - fair) <= max(sizes, default=0) for run in runs)


def test_progress_of_a_share_stands_for_all(monkeypatch):
    shown, done = [], []

    @contextmanager
    def progress(work, *, total, unit):
        shown.append((work, total, unit))
        yield done.append

    monkeypatch.setattr(batching, "progress", progress)
    with share_progress("scoring", [5, 3, 2, 4], [0, 2], unit="tokens") as advance:
        advance(5)
        advance(2)
    assert shown == [("scoring", 14, "tokens")]
    assert done == [10, 4]
    with share_progress("scoring", [], [], unit="tokens"):
        pass


@given(spans(), st.integers(1, 400))
def test_packed_batches_contain_every_item_once_in_order_within_the_limit(spans, limit):
    order = sorted(range(len(spans)), key=lambda index: -spans[index][1])
    batches = pack_batches(order, spans, limit)
    assert [index for batch in batches for index in batch] == order
    for batch in batches:
        area = len(batch) * (max(spans[i][1] for i in batch) - min(spans[i][0] for i in batch))
        assert len(batch) == 1 or area <= limit


@given(spans(), st.integers(1, 400))
def test_a_packed_batch_ends_only_where_the_next_item_does_not_fit(spans, limit):
    order = sorted(range(len(spans)), key=lambda index: -spans[index][1])
    batches = pack_batches(order, spans, limit)
    for batch, following in pairwise(batches):
        together = [*batch, following[0]]
        assert len(together) * (spans[batch[0]][1] - min(spans[i][0] for i in together)) > limit


@given(st.lists(st.integers(0, 6), max_size=40), st.one_of(st.none(), st.integers(1, 7)))
def test_same_length_batches_contain_every_item_once_and_one_length_each(lengths, max_size):
    batches = same_length_batches(lengths, max_size)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert batch
        assert len({lengths[index] for index in batch}) == 1
        assert len(batch) <= (max_size or len(lengths))
    if max_size is None:
        assert len(batches) == len(set(lengths))


@pytest.mark.parametrize("processes", [1, 2, 3, 5])
def test_a_result_does_not_depend_on_the_number_of_processes(processes):
    lengths = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5]
    plan = same_length_batches(lengths, 2) + pack_batches(range(11), [(0, 9)] * 11, 27)
    found = {}
    for rank in range(processes):
        found |= dict(share_batches(process(rank, processes), plan))
    assert [found[index] for index in range(len(plan))] == plan
