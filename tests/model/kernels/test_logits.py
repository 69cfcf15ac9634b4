"""Logits compared with those of a linear layer, and the sizes of chunks."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from textgen.model.kernels import logits as module
from textgen.model.kernels.logits import compute_logits, rows_per_chunk


@settings(max_examples=40)
@given(
    seed=st.integers(0, 1000),
    vocabulary=st.sampled_from([1, 63, 64, 65, 2047, 5000]),
    rows=st.integers(0, 7),
    bias=st.booleans(),
)
def test_logits_are_those_of_the_layer_in_a_new_tensor(seed, vocabulary, rows, bias):
    torch.manual_seed(seed)
    weight, hidden = torch.randn(vocabulary, 6), torch.randn(rows, 6)
    bias_vector = torch.randn(vocabulary) if bias else None
    before = weight.clone(), hidden.clone()
    logits = compute_logits(hidden, weight, bias_vector)
    expected = torch.nn.functional.linear(hidden, weight, bias_vector)
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)
    logits.zero_()
    assert torch.equal(weight, before[0])
    assert torch.equal(hidden, before[1])


def test_a_bias_is_added_in_float32_to_products_in_bfloat16():
    torch.manual_seed(0)
    weight, bias = torch.randn(3000, 8).bfloat16(), torch.full((3000,), 2.0**-12)
    hidden = torch.randn(5, 8).bfloat16()
    logits = compute_logits(hidden, weight, bias)
    assert logits.dtype == torch.float32
    assert torch.equal(logits, (hidden @ weight.t()).float() + bias), "bfloat16 would round this bias away"


@given(rows=st.integers(0, 10_000), max_rows=st.integers(1, 500))
def test_chunks_are_equally_large_and_as_few_as_possible(rows, max_rows):
    size = rows_per_chunk(rows, 50_257, max_rows)
    assert 1 <= size <= max_rows
    assert math.ceil(rows / size) == math.ceil(rows / max_rows)


@pytest.mark.parametrize(("vocabulary", "max_rows"), [(50_257, 333), (10**9, 1)])
def test_chunks_stay_within_the_memory_limit(vocabulary, max_rows):
    assert module.MAX_CHUNK_BYTES // (4 * vocabulary) in (max_rows, 0)
    assert rows_per_chunk(10**6, vocabulary) <= max_rows
