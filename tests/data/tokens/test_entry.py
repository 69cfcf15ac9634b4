"""Entries of the cache are complete or absent."""

import numpy as np
import pytest

from textgen.data.tokens import entry as entry_module
from textgen.data.tokens.chunk_sums import CHUNK
from textgen.data.tokens.entry import (
    CheckedArray,
    facts_of,
    is_intact,
    map_array,
    map_derived,
    open_array,
    publish,
    save_derived,
    seal,
)
from textgen.data.tokens.journal import Journal
from textgen.errors import UserError


@pytest.fixture
def sealed(tmp_path):
    """``sealed("name")``: a sealed directory."""

    def make(name: str, number: int = 1):
        directory = tmp_path / name
        directory.mkdir()
        (directory / "a.bin").write_bytes(bytes(range(8)))
        (directory / "empty.bin").touch()
        seal(directory, {"number": number})
        return directory

    return make


def test_an_entry_has_the_facts_that_it_was_sealed_with(sealed, tmp_path):
    directory = sealed("one")
    assert facts_of(directory) == {"number": 1}
    seal(directory, {"number": 2})
    assert facts_of(directory) == {"number": 2}
    assert facts_of(tmp_path / "absent") is None


@pytest.mark.parametrize("name", ["a.bin", "empty.bin", "meta.json"])
@pytest.mark.parametrize("damage", ["deleted", "longer", "shorter"])
def test_a_damaged_entry_is_absent(sealed, name, damage):
    path = sealed("one") / name
    content = path.read_bytes()
    if damage == "deleted" or not content:
        path.unlink()
    else:
        path.write_bytes(content + b"0" if damage == "longer" else content[:-4])
    assert facts_of(path.parent) is None


def test_a_file_that_was_added_later_does_no_harm(sealed):
    directory = sealed("one")
    (directory / "derived.bin").touch()
    assert facts_of(directory) == {"number": 1}


def test_a_complete_entry_is_kept_and_a_damaged_one_replaced(sealed, tmp_path):
    entry = tmp_path / "cache" / "entry"
    publish(sealed("one", 1), entry)
    publish(sealed("two", 2), entry)
    assert facts_of(entry) == {"number": 1}
    (entry / "a.bin").unlink()
    publish(tmp_path / "two", entry)
    assert facts_of(entry) == {"number": 2}


def test_arrays_are_mapped_not_read(sealed):
    directory = sealed("one")
    mapped = map_array(directory / "a.bin", np.uint16)
    assert isinstance(mapped, np.memmap)
    assert mapped.tolist() == np.frombuffer(bytes(range(8)), np.uint16).tolist()
    assert map_array(directory / "empty.bin", np.int64).shape == (0,)


@pytest.fixture
def journaled(tmp_path):
    """A sealed directory with checksums: 300 kB of numbers in tokens.bin."""
    with Journal(tmp_path / "entry", ["tokens.bin", "offsets.bin"]) as journal:
        journal.append("tokens.bin", np.arange(150_000, dtype=np.uint16).data)
        journal.commit({})
        journal.append("offsets.bin", np.arange(3).data)
        journal.commit({})
        journal.finish()
    seal(tmp_path / "entry", {})
    return tmp_path / "entry"


def flip(path, index):
    data = bytearray(path.read_bytes())
    data[index] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["tokens.bin", "offsets.bin", "tokens.bin.crc32", "offsets.bin.crc32", "meta.json"])
@pytest.mark.parametrize("index", [0, 20, -1])
def test_an_entry_with_a_flipped_bit_is_not_intact(journaled, tmp_path, name, index):
    assert is_intact(journaled)
    size = (journaled / name).stat().st_size
    flip(journaled / name, min(index, size - 1))
    assert not is_intact(journaled)


def test_a_large_file_is_checked_where_it_is_read(journaled, monkeypatch):
    monkeypatch.setattr(entry_module, "CHECKED_AT_ONCE", 10)
    numbers = np.arange(150_000, dtype=np.uint16)
    path = journaled / "tokens.bin"
    flip(path, 2 * CHUNK + 9)
    assert is_intact(journaled), "it was not read"
    found = open_array(path, np.uint16)
    assert isinstance(found, CheckedArray)
    assert len(found) == 150_000
    assert found[: CHUNK - 1].tolist() == numbers[: CHUNK - 1].tolist()
    assert (found[0], found[-1]) == (numbers[0], numbers[-1])
    assert found[9:9].tolist() == []
    for span in (slice(CHUNK - 1, CHUNK + 1), slice(100_000), CHUNK + 4):
        with pytest.raises(UserError, match=r"tokens\.bin: .* is damaged near byte 131,072\. Run the same command"):
            found[span]
    assert facts_of(journaled) is None, "the next start builds it again"


def test_an_intact_chunk_is_checked_once(journaled, monkeypatch):
    monkeypatch.setattr(entry_module, "CHECKED_AT_ONCE", 10)
    checked = []
    monkeypatch.setattr(entry_module, "first_damage", lambda data, sums, chunks: checked.append(chunks))
    found = open_array(journaled / "tokens.bin", np.uint16)
    for begin in (0, 5, CHUNK // 2 - 1, 7):
        found[begin : begin + 2]
    assert checked == [range(1), range(2)]


@pytest.mark.parametrize("content", [None, b"", b"1234567", b"12345678"])
def test_derived_numbers_are_read_back_unless_they_are_damaged(tmp_path, content):
    path = tmp_path / "blocks.bin"
    assert map_derived(path) is None
    save_derived(path, np.array([0, 3, 9]))
    assert list(tmp_path.iterdir()) == [path]
    found = map_derived(path)
    assert found is not None
    assert found.tolist() == [0, 3, 9]
    path.unlink() if content is None else path.write_bytes(content)
    assert map_derived(path) is None
    save_derived(path, np.array([0, 3, 9]))
    flip(path, 8)
    assert map_derived(path) is None
