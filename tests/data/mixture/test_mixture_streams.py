"""A block of a mixture is the same as in its part."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from textgen.data.blocks import BlockSpans
from textgen.data.mixture.streams import MixedSpans, MixedStream
from textgen.data.token_stream import TokenStream


def stream(tokens: int, first: int) -> TokenStream:
    """Each token's id tells its part and position; the second token of three is context only."""
    edges = np.array([edge for token in range(1, tokens, 3) for edge in (token, token + 1)], np.int64)
    return TokenStream(first + np.arange(tokens), np.array([1, *range(5, tokens, 4)]), edges)


@given(st.lists(st.integers(2, 40), min_size=1, max_size=4), st.integers(2, 10), st.booleans(), st.booleans())
def test_blocks_and_targets_are_those_of_the_parts(sizes, block_size, isolated, packed):
    parts = tuple(stream(size, 1000 * i) for i, size in enumerate(sizes))
    spans = [BlockSpans(len(p.ids), block_size, None if packed else p.offsets) for p in parts]
    mixed = MixedStream(parts, (1,) * len(parts))
    joined = MixedSpans(spans, mixed.begins)
    expected = [(part, span) for part, own in zip(parts, spans, strict=True) for span in own]
    assert len(joined) == len(expected) == sum(joined.blocks)
    for index, (part, span) in enumerate(expected):
        assert mixed.targets(joined[index]) == part.targets(span)
        found = mixed.block(joined[index], block_size, isolated=isolated)
        for column, own in zip(found, part.block(span, block_size, isolated=isolated), strict=True):
            assert np.array_equal(column, own)
    some = np.random.default_rng(0).permutation(len(joined))
    assert joined[some].tolist() == [joined[i].tolist() for i in some]
    assert joined[-1].tolist() == joined[len(joined) - 1].tolist()
    assert joined[np.array([], np.int64)].shape == (0, 2)


def test_a_single_stream_is_a_mixture_of_itself():
    one = stream(10, 0)
    mixed = MixedStream.of(one)
    assert mixed.parts == (one,)
    assert MixedStream.of(mixed) is mixed
