"""A known file is recognized without reading it; a changed one never is."""

import hashlib
import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from textgen.data.cache import cache_directory
from textgen.data.sources import fingerprints
from textgen.data.sources.fingerprints import check_unchanged, content_sha256
from textgen.errors import UserError

LONG_AGO = 1_000_000_000  # seconds since 1970


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEXTGEN_CACHE", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def _settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The files of these tests were all written just now."""
    monkeypatch.setattr(fingerprints, "_SETTLED_NS", 0)


class Reader:
    """Hashes files, and counts them."""

    def __init__(self) -> None:
        self.files: list[str] = []

    def __call__(self, path: Path) -> str:
        self.files.append(path.name)
        return hashlib.sha256(path.read_bytes()).hexdigest()


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("size", [1, 4096, 4097, 100_000])
def test_a_file_is_read_once(write, size):
    path, read = write("a.txt", "x" * size), Reader()
    assert content_sha256(path, read) == content_sha256(path, read) == sha256(path)
    assert read.files == ["a.txt"]


def test_it_is_read_again_on_request_but_once_by_all_processes(write, monkeypatch):
    path, read = write("a.txt", "one"), Reader()
    content_sha256(path, read)
    monkeypatch.setattr(fingerprints, "_STARTED_NS", time.time_ns())
    assert content_sha256(path, read, verify=True) == content_sha256(path, read, verify=True) == sha256(path)
    assert len(read.files) == 2


def test_changes_that_only_a_full_read_can_see_are_seen_on_request(write, monkeypatch):
    path, read = write("a.txt", "x" * 100_000), Reader()
    first = content_sha256(path, read)
    monkeypatch.setattr(fingerprints, "_appearance", lambda path: known)  # as if even the times had been restored
    known = dict.fromkeys(("size", "modified_ns", "changed_ns", "sample"), 0)
    content_sha256(path, read)
    path.write_text("y" * 100_000, encoding="utf-8")
    assert content_sha256(path, read) == first
    monkeypatch.setattr(fingerprints, "_STARTED_NS", time.time_ns())
    assert content_sha256(path, read, verify=True) == sha256(path) != first


@pytest.mark.parametrize("position", [0, 5000, 49_999])
def test_a_change_is_seen_even_if_size_and_modification_time_are_restored(write, position):
    path, read = write("a.txt", "x" * 50_000), Reader()
    os.utime(path, (LONG_AGO, LONG_AGO))
    first = content_sha256(path, read)
    with path.open("r+b") as file:
        file.seek(position)
        file.write(b"y")
    os.utime(path, (LONG_AGO, LONG_AGO))
    assert content_sha256(path, read) == sha256(path) != first


def test_a_file_modified_a_moment_ago_is_not_remembered(write, monkeypatch):
    monkeypatch.setattr(fingerprints, "_SETTLED_NS", 3_600_000_000_000)
    path, read = write("a.txt", "one"), Reader()
    content_sha256(path, read)
    content_sha256(path, read)
    assert len(read.files) == 2


def test_two_files_and_a_moved_file_are_told_apart(write, tmp_path, monkeypatch):
    one, two, read = write("a.txt", "one"), write("b/a.txt", "two"), Reader()
    assert content_sha256(one, read) != content_sha256(two, read)
    monkeypatch.chdir(tmp_path)
    content_sha256(Path("a.txt"), read)  # the same file by another name
    assert len(read.files) == 2
    two.replace(one)
    assert content_sha256(one, read) == sha256(one)


def test_a_file_that_changes_while_it_is_hashed_is_a_user_error(write):
    path = write("a.txt", "one")

    def read(path: Path) -> str:
        found = sha256(path)
        path.write_text("one and more", encoding="utf-8")
        return found

    with pytest.raises(UserError, match=r"a\.txt: the file changed while it was read"):
        content_sha256(path, read)
    assert not list(cache_directory("files").rglob("*.json"))


@pytest.mark.parametrize("content", ["longer than before", "One", None])
def test_a_file_that_is_no_longer_what_it_was_is_a_user_error(write, content):
    path, read = write("a.txt", "one"), Reader()
    known = content_sha256(path, read)
    check_unchanged(path, known, read)
    if content is None:
        path.unlink()
    else:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=r"a\.txt: the file changed while it was read. Run the same command again"):
        check_unchanged(path, known, read)


@pytest.mark.parametrize("record", [b"", b"[]", b"{}", b'{"sha256": 1', b"\xff"])
def test_a_torn_record_is_ignored(write, record):
    path, read = write("a.txt", "one"), Reader()
    content_sha256(path, read)
    (stored,) = cache_directory("files").rglob("*.json")
    stored.write_bytes(record)
    assert content_sha256(path, read) == sha256(path)
    assert content_sha256(path, read) == sha256(path)
    assert len(read.files) == 2


def test_a_record_with_a_flipped_bit_is_ignored(write):
    path, read = write("a.txt", "one"), Reader()
    content_sha256(path, read)
    (stored,) = cache_directory("files").rglob("*.json")
    whole = stored.read_bytes()
    index = whole.index(b'"content_sha256": "') + 30
    stored.write_bytes(whole[:index] + (b"0" if whole[index : index + 1] != b"0" else b"1") + whole[index + 1 :])
    assert content_sha256(path, read) == sha256(path)
    assert len(read.files) == 2


def test_without_a_writable_cache_files_are_read_each_time(write, tmp_path, monkeypatch):
    monkeypatch.setenv("TEXTGEN_CACHE", str(write("not-a-directory", "x")))
    path, read = write("a.txt", "one"), Reader()
    assert content_sha256(path, read) == content_sha256(path, read) == sha256(path)
    assert len(read.files) == 2


def test_one_of_several_processes_reads_a_new_file(write, tmp_path):
    path, log = write("a.txt", "one"), tmp_path / "log"
    fork = multiprocessing.get_context("fork")
    start = fork.Barrier(3)

    def read(path: Path) -> str:
        with log.open("a", encoding="utf-8") as file:
            file.write("read\n")
        time.sleep(0.2)  # long enough for all of them to reach the lock
        return sha256(path)

    def look(read: Callable[[Path], str]) -> None:
        start.wait(30)
        assert content_sha256(path, read) == sha256(path)

    processes = [fork.Process(target=look, args=(read,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert log.read_text(encoding="utf-8") == "read\n"
