"""Entries of the cache are complete or absent."""

import numpy as np
import pytest

from textgen.data.tokens.entry import facts_of, map_array, publish, seal


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
