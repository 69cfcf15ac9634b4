"""Block sizes that fit the model and the data."""

import numpy as np
import pytest

from textgen.data.block_size import auto_block_size, block_size_for_examples


@pytest.mark.parametrize(
    ("context", "tokens", "expected"),
    [
        (1024, 100_000_000, 1024),
        (131_072, 100_000_000, 1024),  # not the whole of a long context: memory grows with it
        (1024, 1_000_000, 512),
        (1024, 90_000, 128),
        (1000, 100_000_000, 512),  # the largest power of two within the context
        (64, 100_000_000, 64),
        (100, 90_000, 100),
        (1024, 50, 50),
    ],
)
def test_the_size_fits_the_context_and_the_data(context, tokens, expected):
    assert auto_block_size(context, tokens=tokens, global_batch_size=16) == expected


@pytest.mark.parametrize(
    ("lengths", "context", "expected"),
    [
        ([20] * 99, 1024, 128),
        ([300] * 99, 1024, 512),
        ([*[300] * 99, 5000], 1024, 512),
        ([5000], 8192, 1024),
        ([300], 256, 256),
        ([128], 1024, 128),
        ([*[100] * 95, *[300] * 5], 1024, 128),
        ([*[100] * 94, *[300] * 6], 1024, 512),
        ([], 64, 64),
    ],
)
def test_most_examples_fit_into_a_block(lengths, context, expected):
    counts = np.bincount(np.minimum(np.array(lengths, dtype=int), 1025), minlength=1026)
    assert block_size_for_examples(counts, context) == expected
