"""Files are written atomically, and read with errors that name the file and the line."""

import json
import math
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from textgen.errors import UserError
from textgen.files import (
    json_line,
    parse_jsonl,
    read_bytes,
    read_json,
    sync,
    user_path,
    write_bytes,
    write_json,
)


def test_a_json_file_is_written_completely_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "x.json"
    write_json(path, {"é": [1, None], "half": "\ud800"})
    assert read_json(path) == {"é": [1, None], "half": "\ud800"}
    before = path.read_bytes()
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"x": math.nan})
    with pytest.raises(TypeError):
        write_json(path, {"x": object()})
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_jsonl_is_one_line_per_row():
    rows = [{"text": "two\nlines\u2028\r"}, {"text": "🙂"}]
    lines = b"".join(map(json_line, rows)).split(b"\n")
    assert [json.loads(line) for line in lines[:-1]] == rows
    assert lines[-1] == b""
    assert list(parse_jsonl(lines[:-1], Path("x.jsonl"))) == rows


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_read_back_bit_for_bit(value):
    assert struct.pack("d", json.loads(json_line({"x": value}))["x"]) == struct.pack("d", value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_cannot_represent_is_an_error(value):
    with pytest.raises(ValueError, match="JSON compliant"):
        json_line({"x": value})


def test_a_failed_write_leaves_the_old_file_and_no_temporary_file(tmp_path, monkeypatch):
    path = tmp_path / "x"
    path.write_bytes(b"old")

    def full(descriptor):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_kill_during_a_write_leaves_the_old_file_and_the_next_write_cleans_up(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"old")
    program = (
        "import os, signal, sys; from pathlib import Path; from textgen.files import write_bytes\n"
        "os.replace = lambda *paths: os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_bytes(Path(sys.argv[1]), b'new')\n"
    )
    assert subprocess.run([sys.executable, "-c", program, str(path)]).returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 2
    write_bytes(path, b"newer")
    assert path.read_bytes() == b"newer"
    assert list(tmp_path.iterdir()) == [path]


def test_the_data_is_synced_before_the_rename_and_the_directory_after_it(tmp_path, monkeypatch):
    path = tmp_path / "x"
    events = []

    def fsync(descriptor: int) -> None:
        synced = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        events.append(("sync", synced.name, path.exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    write_bytes(path, b"new")
    assert events == [("sync", ".x.tmp", False), ("sync", tmp_path.name, True)]


def test_sync_flushes_a_file_or_directory_and_closes_it(tmp_path, monkeypatch):
    (tmp_path / "x").write_bytes(b"")
    synced: list[tuple[int, str]] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append((fd, os.readlink(f"/proc/self/fd/{fd}"))))
    for path in (tmp_path / "x", tmp_path):
        sync(path)
        descriptor, target = synced[-1]
        assert target == str(path)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


def test_a_missing_file_reads_as_empty(tmp_path):
    assert read_json(tmp_path / "x.json") == {}


def test_a_json_file_without_an_object_is_named(tmp_path):
    write_json(tmp_path / "x.json", [1, 2])
    with pytest.raises(UserError, match=r"x\.json: not a JSON object"):
        read_json(tmp_path / "x.json")


@pytest.mark.parametrize("read", [read_json, read_bytes])
def test_what_cannot_be_read_is_named(tmp_path, read):
    (tmp_path / "x.json").mkdir()
    with pytest.raises(UserError, match=r"x\.json: cannot be read: Is a directory"):
        read(tmp_path / "x.json")


@pytest.mark.parametrize("content", [b'{"x": ', b"", b"\xff\xfe"])
def test_a_damaged_json_file_is_named(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"x\.json: not valid JSON"):
        read_json(path)


@pytest.mark.parametrize("damaged", [b'{"x": \n', b'{"x": "\xff"}\n', b"\x00\x00"])
def test_a_damaged_line_of_jsonl_is_named_with_its_number_after_the_rows_before_it(damaged):
    rows = parse_jsonl([b'{"x": 1}\n', b'{"x": 2}\n', damaged], Path("x.jsonl"))
    assert [next(rows), next(rows)] == [{"x": 1}, {"x": 2}]
    with pytest.raises(UserError, match=r"x\.jsonl, line 3: not valid JSON"):
        next(rows)


def test_a_tilde_is_the_home_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("~/a/b", setting="--data") == tmp_path / "a/b"
    assert user_path("a/~b", setting="--data") == Path("a/~b")
    with pytest.raises(UserError, match=r"--data ~no-such-user: there is no home directory\. Write out the whole path"):
        user_path("~no-such-user", setting="--data")
