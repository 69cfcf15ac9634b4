"""Entries of the cache are complete or absent."""

import numpy as np
import pytest

from textgen.data.tokens import entry as entry_module
from textgen.data.tokens.chunk_sums import CHUNK
from textgen.data.tokens.entry import (
    CheckedArray,
    facts_of,
    is_intact,
    open_array,
    publish,
    read_derived,
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


@pytest.mark.parametrize("damage", ["flipped", "cut", "emptied", "deleted"])
@pytest.mark.parametrize("at_once", [10, 1 << 26])
def test_what_happens_to_a_file_after_it_was_opened_is_not_used(journaled, monkeypatch, damage, at_once):
    monkeypatch.setattr(entry_module, "CHECKED_AT_ONCE", at_once)
    path = journaled / "tokens.bin"
    numbers = np.arange(150_000, dtype=np.uint16)
    found = open_array(path, np.uint16)
    assert found[70_000:70_010].tolist() == numbers[70_000:70_010].tolist()
    if damage == "flipped":
        flip(path, 200_000)
    elif damage == "deleted":
        path.unlink()
    else:
        with path.open("r+b") as file:
            file.truncate(0 if damage == "emptied" else 150_000)
    if at_once == 10 and damage != "deleted":
        with pytest.raises(UserError, match=r"tokens\.bin: this file of the cache is damaged near byte 196,608"):
            found[100_000:100_010]
    else:
        assert found[100_000:100_010].tolist() == numbers[100_000:100_010].tolist()


def test_a_file_that_is_damaged_while_its_entry_is_opened_is_refused(journaled):
    assert is_intact(journaled)
    flip(journaled / "offsets.bin", 9)
    with pytest.raises(UserError, match=r"offsets\.bin: this file of the cache is damaged near byte 0"):
        open_array(journaled / "offsets.bin", np.int64)
    assert facts_of(journaled) is None


def test_what_is_in_the_place_of_an_entry_makes_way(sealed, tmp_path):
    entry = tmp_path / "cache" / "entry"
    entry.parent.mkdir()
    entry.write_text("a file")
    publish(sealed("one", 1), entry)
    assert facts_of(entry) == {"number": 1}
    derived = entry / "blocks.bin"
    (derived / "x").mkdir(parents=True)
    assert read_derived(derived) is None
    save_derived(derived, np.array([1]))
    assert read_derived(derived) == [1]


@pytest.mark.parametrize("content", [None, b"", b"1234567", b"12345678"])
def test_derived_numbers_are_read_back_unless_they_are_damaged(tmp_path, content):
    path = tmp_path / "blocks.bin"
    assert read_derived(path) is None
    save_derived(path, np.array([0, 3, 9]))
    assert list(tmp_path.iterdir()) == [path]
    found = read_derived(path)
    assert found is not None
    assert found.tolist() == [0, 3, 9]
    path.unlink() if content is None else path.write_bytes(content)
    assert read_derived(path) is None
    save_derived(path, np.array([0, 3, 9]))
    flip(path, 8)
    assert read_derived(path) is None
