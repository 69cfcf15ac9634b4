"""Windows score every token once, within the context; the settings of both conventions are validated."""

from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from perplexity_examples import DOCUMENTS

from textgen.data.document import Document
from textgen.errors import UserError
from textgen.evaluation.perplexity.windows import (
    WindowSettings,
    rolling_token_windows,
    rolling_windows,
    strided_token_windows,
    strided_windows,
)

lengths = st.integers(1, 200)
contexts = st.integers(1, 40)


def assert_all_scored_once(windows, length, context):
    assert [token for w in windows for token in range(w.scored, w.end)] == list(range(1, length))
    for w in windows:
        assert 0 <= w.start < w.scored < w.end <= length
        assert w.end - 1 - w.start <= context, "the model reads all tokens but the last"


@given(lengths, contexts)
def test_rolling_scores_every_token_once_and_reads_at_most_the_context(length, context):
    assert_all_scored_once(rolling_windows(length, context), length, context)


@given(lengths, contexts, st.data())
def test_strided_scores_every_token_once_and_reads_at_most_the_context(length, context, data):
    stride = data.draw(st.integers(1, context))
    windows = strided_windows(length, context, stride)
    assert_all_scored_once(windows, length, context)
    assert all(w.end - w.scored <= stride for w in windows[1:])
    if stride < context:
        assert all(w.end - w.start <= context and w.start % stride == 0 for w in windows)


@given(lengths, contexts)
def test_rolling_reads_and_scores_the_same_tokens_as_lm_eval(length, context):
    tokens = list(range(length))  # token 0 is the prefix
    expected = [
        make_disjoint_window(pair)
        for pair in get_rolling_token_windows(tokens[1:], prefix_token=0, max_seq_len=context, context_len=1)
    ]
    windows = rolling_windows(length, context)
    assert [(tokens[w.start : w.end - 1], tokens[w.scored : w.end]) for w in windows] == [
        (before + scored[:-1], scored) for before, scored in expected
    ]


def test_strided_windows_of_the_transformers_guide():
    read = [(w.start, w.scored, w.end) for w in strided_windows(10, context=4, stride=2)]
    assert read == [(0, 1, 4), (2, 4, 6), (4, 6, 8), (6, 8, 10)]


def test_a_stride_of_the_whole_context_skips_no_token():
    read = [(w.start, w.scored, w.end) for w in strided_windows(9, context=4, stride=4)]
    assert read == [(0, 1, 4), (3, 4, 8), (7, 8, 9)]


@pytest.mark.parametrize("stride", [0, 5])
def test_a_stride_outside_the_context_is_an_assertion_error(stride):
    with pytest.raises(AssertionError):
        strided_windows(10, context=4, stride=stride)


@pytest.mark.parametrize(
    ("convention", "stride", "message"),
    [
        ("rolling", 8, "--stride 8"),
        ("strided", 0, "--stride 0"),
        ("strided", 33, "--stride 33: exceeds the model's context. Use 32 or less."),
        ("evaluate", None, "rolling or strided"),
    ],
)
def test_invalid_settings_are_user_errors(convention, stride, message):
    with pytest.raises(UserError, match=message):
        WindowSettings.resolve(convention, 32, stride)


def test_the_default_stride_is_half_of_the_context():
    assert WindowSettings.resolve("rolling", 1024) == WindowSettings("rolling", 1024, None)
    assert WindowSettings.resolve("strided", 1024) == WindowSettings("strided", 1024, 512)
    assert WindowSettings.resolve("strided", 1).stride == 1
    assert WindowSettings.resolve("strided", 1024, 7).stride == 7


def test_rolling_needs_a_prefix_token(tokenizer_with):
    with pytest.raises(UserError, match="neither a BOS nor an EOS"):
        WindowSettings.resolve("rolling", 32).cut(tokenizer_with(), DOCUMENTS)


def test_strided_needs_a_tokenizer_that_reports_offsets():
    slow = SimpleNamespace(is_fast=False)
    with pytest.raises(UserError, match="not a fast one"):
        WindowSettings.resolve("strided", 32).cut(slow, DOCUMENTS)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text("ab ", min_size=1, max_size=30), st.text("ab ", min_size=1, max_size=30), st.integers(1, 12))
def test_of_an_example_the_completion_is_scored_after_its_prompt(tokenizer, prompt, completion, context):
    example = Document("a#0", "a", prompt + completion, prompt, (), True)
    windows = rolling_token_windows(tokenizer, [example], context)
    before, after = (tokenizer(text)["input_ids"] for text in (prompt, completion))
    assert [token for window in windows for token in window.targets] == after
    sequence = [0, *before, *after]
    for window in windows:
        assert len(window.inputs) <= context
        read = [*window.inputs, window.targets[-1]]
        assert any(sequence[i : i + len(read)] == read for i in range(len(sequence)))


def test_examples_are_not_joined_into_one_text(tokenizer):
    with pytest.raises(UserError, match="--convention rolling, or --loss-on all"):
        strided_token_windows(tokenizer, [Document("a#0", "a", "a b", "a", (), True)], 8, 4)
