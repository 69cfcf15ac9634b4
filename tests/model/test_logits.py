"""The head's product in blocks against the product at once, wherever blocks, rows and buffers end."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from textgen.model import logits as module
from textgen.model.logits import LogitsBuffer, rows_at_once


@settings(max_examples=40)
@given(
    seed=st.integers(0, 1000),
    vocabulary=st.sampled_from([1, 63, 64, 65, 2047, 2048, 2049, 5000]),
    fills=st.lists(st.integers(0, 7), min_size=1, max_size=3),
    bias=st.booleans(),
)
def test_every_fill_is_the_product_at_once_and_nothing_past_the_vocabulary(seed, vocabulary, fills, bias):
    torch.manual_seed(seed)
    weight = torch.randn(vocabulary, 6)
    added = torch.randn(vocabulary) if bias else None
    buffer = LogitsBuffer(weight, max(fills))
    for rows in fills:
        hidden = torch.randn(rows, 6)
        logits = buffer.fill(hidden, added)
        torch.testing.assert_close(
            logits[:, :vocabulary], torch.nn.functional.linear(hidden, weight, added), rtol=1e-5, atol=1e-5
        )
        assert torch.equal(logits[:, vocabulary:], torch.full_like(logits[:, vocabulary:], -math.inf))
        assert logits.shape[1] % 64 == 0
        torch.testing.assert_close(
            logits.softmax(1)[:, :vocabulary], logits[:, :vocabulary].softmax(1), rtol=1e-6, atol=1e-7
        )


def test_products_in_bf16_are_added_up_in_float32_and_rounded_again():
    torch.manual_seed(0)
    weight, bias = torch.randn(3000, 8).bfloat16(), torch.randn(3000)
    hidden = torch.randn(5, 8).bfloat16()
    buffer = LogitsBuffer(weight, 5)
    logits = buffer.fill(hidden, bias)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits[:, :3000], (hidden @ weight.t()).float() + bias, rtol=0.02, atol=0.05)
    logits.mul_(0.5)
    rounded = buffer.rounded(logits)
    assert rounded.dtype == torch.bfloat16
    assert torch.equal(rounded, logits[:, :3000].bfloat16())


@given(rows=st.integers(0, 10_000), most=st.integers(1, 500))
def test_parts_are_of_one_size_and_no_more_of_them_than_needed(rows, most):
    size = rows_at_once(rows, 50_257, most)
    assert 1 <= size <= most
    assert math.ceil(rows / size) == math.ceil(rows / most)


@pytest.mark.parametrize(("vocabulary", "most"), [(50_257, 333), (10**9, 1)])
def test_rows_stay_within_the_bytes(vocabulary, most):
    assert module.BYTES // (4 * vocabulary) in (most, 0)
    assert rows_at_once(10**6, vocabulary) <= most
