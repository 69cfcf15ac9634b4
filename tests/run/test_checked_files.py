"""Files with their checksums beside them: damage is named, and what this process wrote is written again."""

import pytest

from textgen.errors import UserError
from textgen.files import write_bytes
from textgen.run import checked_files
from textgen.run.checked_files import CHECKSUMS, CheckedFiles

NAMES = ("a.json", "b.jsonl", "c.json")


@pytest.fixture
def opened(tmp_path):
    """Opens the same directory as another process would."""
    return lambda: CheckedFiles(tmp_path / "files", NAMES, remedy="Restore it.")


@pytest.fixture
def files(opened):
    files = opened()
    files.write({"a.json": b"one", "b.jsonl": b""})
    return files


def test_another_process_reads_what_was_written(files, opened):
    assert [opened().read(name) for name in NAMES] == [b"one", b"", None]
    assert opened().damage() == []
    assert sorted(opened().hashes()) == ["a.json", "b.jsonl", CHECKSUMS]


def test_files_that_others_wrote_stay_listed(files, opened):
    other = opened()
    other.write({"c.json": b"three"})
    assert sorted(opened().hashes()) == ["a.json", "b.jsonl", "c.json", CHECKSUMS]
    assert opened().damage() == []


@pytest.mark.parametrize("content", [None, b"", b"on", b"onf", b"[]"])
@pytest.mark.parametrize("name", ["a.json", CHECKSUMS])
def test_damage_is_named_and_never_read(files, opened, name, content):
    path = files.directory / name
    path.unlink() if content is None else path.write_bytes(content)
    assert opened().damage() == [name]
    if (name, content) != (CHECKSUMS, None):  # without checksums, as of an earlier version, nothing is checked
        with pytest.raises(UserError, match=rf"{name}: .*Restore it\."):
            opened().read("a.json")


@pytest.mark.parametrize("content", [None, b"", b"onf"])
@pytest.mark.parametrize("name", ["a.json", CHECKSUMS])
def test_the_process_that_wrote_them_writes_them_again(files, opened, name, content):
    assert files.mend() == []
    path = files.directory / name
    whole = path.read_bytes()
    path.unlink() if content is None else path.write_bytes(content)
    assert files.read("a.json") == b"one", "from memory"
    assert files.mend() == [name]
    assert path.read_bytes() == whole
    assert opened().damage() == []


@pytest.mark.parametrize("killed_at", [0, 1])
def test_after_a_kill_each_file_is_an_old_or_a_new_one(files, opened, monkeypatch, killed_at):
    written = []

    def write(path, data):
        if len(written) == killed_at:
            raise KeyboardInterrupt
        written.append(path.name)
        write_bytes(path, data)

    monkeypatch.setattr(checked_files, "write_bytes", write)
    with pytest.raises(KeyboardInterrupt):
        files.write({"a.json": b"two", "b.jsonl": b"rows"})
    assert opened().damage() == []
    assert opened().read("a.json") == (b"two" if killed_at else b"one")
    assert opened().read("b.jsonl") == b""


def test_a_file_that_is_written_while_it_is_read_is_read_again(files, opened, monkeypatch):
    read = checked_files.read_bytes

    def write_first(path, remedy):
        if path.read_bytes() == b"one":
            files.write({"a.json": b"two"})
        return read(path, remedy)

    monkeypatch.setattr(checked_files, "read_bytes", write_first)
    assert opened().read("a.json") == b"two"


def test_what_is_discarded_is_gone_and_nothing_else(files, opened):
    (files.directory / "mine.json").write_bytes(b"kept")
    files.discard()
    assert [path.name for path in files.directory.iterdir()] == ["mine.json"]
    assert files.read("a.json") is opened().read("a.json") is None
    assert opened().damage() == []
