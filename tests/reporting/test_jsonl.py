import json
import math
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from textgen.errors import UserError
from textgen.files import write_bytes, write_json, write_jsonl
from textgen.reporting.jsonl import StepRecord


@pytest.fixture
def record(tmp_path: Path) -> StepRecord:
    return StepRecord(tmp_path / "metrics.jsonl")


def test_rows_come_back_in_order_with_their_keys_in_order(record):
    rows = [{"step": 10, "train/loss": 3.5, "eval/loss": 3.25}, {"step": 20, "b": 1, "a": None}]
    for row in rows:
        record.append(row)
    assert record.path.read_text() == (
        '{"step": 10, "train/loss": 3.5, "eval/loss": 3.25}\n{"step": 20, "b": 1, "a": null}\n'
    )
    assert record.read() == rows


def test_a_missing_file_has_no_rows_and_nothing_to_truncate(record):
    assert record.read() == []
    record.truncate_after(10)
    assert not record.path.exists()


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_come_back_bit_for_bit(tmp_path_factory, value):
    record = StepRecord(tmp_path_factory.mktemp("record") / "metrics.jsonl")
    record.append({"step": 1, "x": value})
    assert struct.pack("d", record.read()[0]["x"]) == struct.pack("d", value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_does_not_have_is_refused_and_leaves_the_file_alone(record, value):
    record.append({"step": 1})
    before = record.path.read_bytes()
    with pytest.raises(ValueError, match="JSON compliant"):
        record.append({"step": 2, "train/loss": value})
    assert record.path.read_bytes() == before


@pytest.mark.parametrize(
    "torn", [b'{"step": 30, "lo', b'{"step": 30, "x": 1}', b"\x00\x00\x00\n", b'{"ste\rp": 3\n', b"{}\n"]
)
def test_truncation_drops_later_rows_and_a_torn_last_line(record, torn):
    for step in (10, 20, 25):
        record.append({"step": step, "x": 0.1})
    whole = record.path.read_bytes()
    record.path.write_bytes(whole + torn)
    assert [row["step"] for row in record.read()] == [10, 20, 25]
    record.truncate_after(20)
    assert record.path.read_bytes() == whole[: whole.index(b'{"step": 25')]


def test_a_record_that_was_truncated_and_continued_has_the_bytes_of_one_that_never_stopped(record, tmp_path):
    unbroken = StepRecord(tmp_path / "unbroken.jsonl")
    rows = [{"step": step, "train/loss": 1 / step} for step in range(1, 9)]
    for row in rows:
        unbroken.append(row)
    for row in rows[:6]:
        record.append(row)
    with record.path.open("ab") as file:
        file.write(b'{"step": 7, "tra')
    record.truncate_after(4)
    for row in rows[4:]:
        record.append(row)
    assert record.path.read_bytes() == unbroken.path.read_bytes()


def test_truncation_with_nothing_to_drop_does_not_rewrite(record):
    record.append({"step": 1})
    inode = record.path.stat().st_ino
    record.truncate_after(1)
    assert record.path.stat().st_ino == inode


def test_damage_in_the_middle_is_said_with_its_line_and_not_dropped(record):
    record.path.write_bytes(b'{"step": 1}\n{"step": 2, oops}\n{"step": 3}\n')
    with pytest.raises(UserError, match=r"metrics\.jsonl, line 2"):
        record.truncate_after(1)
    assert record.path.read_bytes().count(b"\n") == 3


def test_a_row_outlives_a_kill_right_after_append(tmp_path):
    path = tmp_path / "metrics.jsonl"
    program = (
        "import os, signal, sys; from pathlib import Path; from textgen.reporting.jsonl import StepRecord\n"
        "record = StepRecord(Path(sys.argv[1]))\n"
        "for step in range(50): record.append({'step': step})\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", program, str(path)]).returncode == -9
    assert [row["step"] for row in StepRecord(path).read()] == list(range(50))


def test_append_and_replace_are_synced(record, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.readlink(f"/proc/self/fd/{descriptor}")))
    record.append({"step": 1})
    assert synced == [str(record.path), str(record.path.parent)]
    write_json(record.path.parent / "x.json", {})
    assert synced[2:] == [str(record.path.parent / ".x.json.tmp"), str(record.path.parent)]


def test_json_files_are_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "x.json"
    write_json(path, {"é": [1, None], "half": "\ud800"})
    assert json.loads(path.read_text()) == {"é": [1, None], "half": "\ud800"}
    before = path.read_bytes()
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"x": math.nan})
    with pytest.raises(TypeError):
        write_jsonl(path, [{"x": 1}, {"x": object()}])
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_replacement_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    path = tmp_path / "x"
    path.write_bytes(b"old")

    def full(descriptor):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_jsonl_is_one_line_a_row(tmp_path):
    rows = [{"text": "two\nlines\u2028\r"}, {"text": "🙂"}]
    write_jsonl(tmp_path / "x.jsonl", rows)
    lines = (tmp_path / "x.jsonl").read_bytes().split(b"\n")
    assert [json.loads(line) for line in lines[:-1]] == rows
    assert lines[-1] == b""
