"""Block sizes that fit the model and the data."""

import pytest

from textgen.data.block_size import auto_block_size


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
