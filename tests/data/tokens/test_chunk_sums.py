"""Checksums of chunks: the same however the data was appended, and wrong after any flipped bit."""

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from textgen.data.tokens.chunk_sums import CHUNK, SUFFIX, ChunkSums, chunks_in, first_damage, read_sums

DATA = np.random.default_rng(0).integers(256, size=3 * CHUNK + 1000, dtype=np.uint8)


def sums_of(data: bytes, cuts: list[int]) -> np.ndarray:
    sums = ChunkSums()
    pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    return np.frombuffer(b"".join([*map(sums.append, pieces), sums.rest()]), "<u4")


@given(st.lists(st.integers(0, len(DATA))).map(sorted), st.sampled_from([0, 5, CHUNK, 2 * CHUNK, len(DATA)]))
def test_they_are_those_of_every_64_kib(cuts, size):
    data = DATA[:size].tobytes()
    expected = [zlib.crc32(data[begin : begin + CHUNK]) for begin in range(0, size, CHUNK)]
    assert sums_of(data, [min(cut, size) for cut in cuts]).tolist() == expected
    assert len(expected) == chunks_in(size)


def test_they_continue_where_they_were():
    first, second = DATA[: CHUNK + 77].tobytes(), DATA[CHUNK + 77 :].tobytes()
    begun = ChunkSums()
    found = begun.append(first)
    resumed = ChunkSums(len(first), begun.partial)
    found += resumed.append(second) + resumed.rest()
    assert np.frombuffer(found, "<u4").tolist() == sums_of(DATA.tobytes(), []).tolist()


@pytest.mark.parametrize("index", [0, CHUNK - 1, CHUNK, 2 * CHUNK + 5, len(DATA) - 1])
@pytest.mark.parametrize("bit", [1, 128])
def test_a_flipped_bit_is_found_in_its_chunk(index, bit):
    sums, data = sums_of(DATA.tobytes(), []), DATA.copy()
    assert first_damage(data, sums, range(4)) is None
    data[index] ^= bit
    assert first_damage(data, sums, range(4)) == index // CHUNK
    assert first_damage(data, sums, range(index // CHUNK)) is None


def test_they_are_read_from_beside_the_file(tmp_path):
    (tmp_path / f"x.bin{SUFFIX}").write_bytes(sums_of(DATA.tobytes(), []).tobytes())
    assert read_sums(tmp_path / "x.bin").tolist() == sums_of(DATA.tobytes(), []).tolist()


def test_arrays_of_any_type_and_without_elements_are_appended():
    sums = ChunkSums()
    assert sums.append(np.arange(7).data) == sums.append(np.empty(0, np.int64).data) == b""
    assert sums.partial == zlib.crc32(np.arange(7).tobytes())
