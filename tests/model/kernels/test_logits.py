"""What a head makes of hidden states, against the layer itself, and how many of them are taken at a time."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from textgen.model.kernels import logits as module
from textgen.model.kernels.logits import head_logits, rows_at_once


@settings(max_examples=40)
@given(
    seed=st.integers(0, 1000),
    vocabulary=st.sampled_from([1, 63, 64, 65, 2047, 5000]),
    rows=st.integers(0, 7),
    bias=st.booleans(),
)
def test_logits_are_those_of_the_layer_in_memory_of_their_own(seed, vocabulary, rows, bias):
    torch.manual_seed(seed)
    weight, hidden = torch.randn(vocabulary, 6), torch.randn(rows, 6)
    added = torch.randn(vocabulary) if bias else None
    before = weight.clone(), hidden.clone()
    logits = head_logits(hidden, weight, added)
    expected = torch.nn.functional.linear(hidden, weight, added)
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)
    logits.zero_()
    assert torch.equal(weight, before[0])
    assert torch.equal(hidden, before[1])


def test_products_in_bf16_are_added_up_in_float32():
    torch.manual_seed(0)
    weight, bias = torch.randn(3000, 8).bfloat16(), torch.full((3000,), 2.0**-12)
    hidden = torch.randn(5, 8).bfloat16()
    logits = head_logits(hidden, weight, bias)
    assert logits.dtype == torch.float32
    assert torch.equal(logits, (hidden @ weight.t()).float() + bias), "a bias that bf16 would swallow is there"


@given(rows=st.integers(0, 10_000), most=st.integers(1, 500))
def test_parts_are_of_one_size_and_no_more_of_them_than_needed(rows, most):
    size = rows_at_once(rows, 50_257, most)
    assert 1 <= size <= most
    assert math.ceil(rows / size) == math.ceil(rows / most)


@pytest.mark.parametrize(("vocabulary", "most"), [(50_257, 333), (10**9, 1)])
def test_rows_stay_within_the_bytes(vocabulary, most):
    assert module.BYTES // (4 * vocabulary) in (most, 0)
    assert rows_at_once(10**6, vocabulary) <= most
