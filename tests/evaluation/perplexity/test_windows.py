"""Windows score everything once, within the context; passages know their documents; batches keep their bound."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from textgen.evaluation.perplexity.windows import Passage, plan_batches, rolling_windows, strided_windows

lengths = st.integers(1, 200)
contexts = st.integers(1, 40)


def assert_all_scored_once(windows, length, context):
    assert [token for w in windows for token in range(w.scored, w.end)] == list(range(1, length))
    for w in windows:
        assert 0 <= w.start < w.scored < w.end <= length
        assert w.end - 1 - w.start <= context, "the model reads all but the last of the tokens"


@given(lengths, contexts)
def test_rolling_scores_every_token_once_and_reads_no_more_than_the_context(length, context):
    assert_all_scored_once(rolling_windows(length, context), length, context)


@given(lengths, contexts, st.data())
def test_strided_scores_every_token_once_and_reads_no_more_than_the_context(length, context, data):
    stride = data.draw(st.integers(1, context))
    windows = strided_windows(length, context, stride)
    assert_all_scored_once(windows, length, context)
    assert all(w.end - w.scored <= stride for w in windows[1:])
    if stride < context:
        assert all(w.end - w.start <= context and w.start % stride == 0 for w in windows)


@given(lengths, contexts)
def test_rolling_reads_and_scores_what_the_harness_does(length, context):
    tokens = list(range(length))  # token 0 is the prefix
    expected = [
        make_disjoint_window(pair)
        for pair in get_rolling_token_windows(tokens[1:], prefix_token=0, max_seq_len=context, context_len=1)
    ]
    windows = rolling_windows(length, context)
    assert [(tokens[w.start : w.end - 1], tokens[w.scored : w.end]) for w in windows] == [
        (before + scored[:-1], scored) for before, scored in expected
    ]


def test_strided_windows_of_the_guide():
    read = [(w.start, w.scored, w.end) for w in strided_windows(10, context=4, stride=2)]
    assert read == [(0, 1, 4), (2, 4, 6), (4, 6, 8), (6, 8, 10)]


def test_stride_of_the_whole_context_loses_no_token():
    read = [(w.start, w.scored, w.end) for w in strided_windows(9, context=4, stride=4)]
    assert read == [(0, 1, 4), (3, 4, 8), (7, 8, 9)]


@given(st.lists(st.integers(1, 30), max_size=40), st.integers(1, 100))
def test_batches_hold_every_passage_once_within_their_bound(sizes, batch_tokens):
    passages = [Passage(np.zeros(size), np.zeros(1), np.zeros(1)) for size in sizes]
    batches = plan_batches(passages, batch_tokens)
    assert sorted(index for batch in batches for index in batch) == list(range(len(sizes)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(sizes[index] for index in batch) <= batch_tokens


def test_batches_fill_up():
    passages = [Passage(np.zeros(8), np.zeros(8), np.zeros(8)) for _ in range(12)]
    assert [len(batch) for batch in plan_batches(passages, 32)] == [4, 4, 4]


@pytest.mark.parametrize("stride", [0, 5])
def test_a_stride_outside_the_context_is_a_bug_here(stride):
    with pytest.raises(AssertionError):
        strided_windows(10, context=4, stride=stride)
