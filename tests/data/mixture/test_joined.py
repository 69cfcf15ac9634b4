"""The documents of several parts are one sequence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from textgen.data.document import Document
from textgen.data.mixture.joined import JoinedDocuments


@given(st.lists(st.integers(0, 4), max_size=5))
def test_it_is_the_concatenation(sizes):
    parts = [[Document(f"{p}#{i}", str(p), "text") for i in range(size)] for p, size in enumerate(sizes)]
    expected = [document for part in parts for document in part]
    joined = JoinedDocuments(parts)
    assert len(joined) == len(expected)
    assert list(joined) == expected
    assert joined[1:-1] == expected[1:-1]
    assert [joined[-i - 1] for i in range(len(expected))] == expected[::-1]
    with pytest.raises(IndexError):
        joined[len(expected)]
