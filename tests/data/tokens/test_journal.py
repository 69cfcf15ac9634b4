"""What was committed survives; what was not is gone."""

import pytest

from textgen.data.tokens.journal import Journal

NAMES = ("a/one", "a/two")


def contents(directory):
    return {name: (directory / name).read_bytes() for name in NAMES}


def test_files_are_as_at_the_last_commit_when_they_are_opened_again(tmp_path):
    with Journal(tmp_path / "j", NAMES) as journal:
        assert journal.position == {}
        journal.append("a/one", b"first")
        journal.commit({"at": 1})
        journal.append("a/one", b" second")
        journal.append("a/two", b"lost")
    with Journal(tmp_path / "j", NAMES) as journal:
        assert journal.position == {"at": 1}
        assert contents(tmp_path / "j") == {"a/one": b"first", "a/two": b""}
        journal.append("a/two", b"third")
        journal.commit({"at": 2})
    with Journal(tmp_path / "j", NAMES) as journal:
        assert journal.position == {"at": 2}
        journal.commit({"at": 3})
    assert contents(tmp_path / "j") == {"a/one": b"first", "a/two": b"third"}
    with Journal(tmp_path / "j", NAMES) as journal:
        assert journal.position == {"at": 3}


@pytest.mark.parametrize("damage", ["short file", "no file", "torn commit", "no commit", "other files"])
def test_a_damaged_directory_starts_over(tmp_path, damage):
    with Journal(tmp_path, NAMES) as journal:
        journal.append("a/one", b"first")
        journal.commit({"at": 1})
    committed = tmp_path / "committed.json"
    if damage == "short file":
        (tmp_path / "a" / "one").write_bytes(b"fir")
    elif damage == "no file":
        (tmp_path / "a" / "one").unlink()
    elif damage == "torn commit":
        committed.write_bytes(committed.read_bytes()[:-9])
    elif damage == "no commit":
        committed.unlink()
    else:
        committed.write_text(committed.read_text().replace("a/two", "a/three"))
    with Journal(tmp_path, NAMES) as journal:
        assert journal.position == {}
        assert contents(tmp_path) == {"a/one": b"", "a/two": b""}
