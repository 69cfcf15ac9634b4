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
from textgen.reporting.jsonl import StepRecord, read_rows


@pytest.fixture
def record(tmp_path: Path) -> StepRecord:
    return StepRecord(tmp_path / "metrics.jsonl")


def test_rows_are_read_in_order_with_their_keys_in_order(record):
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
def test_floats_are_read_back_bit_for_bit(tmp_path_factory, value):
    record = StepRecord(tmp_path_factory.mktemp("record") / "metrics.jsonl")
    record.append({"step": 1, "x": value})
    assert struct.pack("d", record.read()[0]["x"]) == struct.pack("d", value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_cannot_express_raises_and_leaves_the_file_alone(record, value):
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
    record = StepRecord(record.path)
    assert [row["step"] for row in record.read()] == [10, 20, 25]
    record.truncate_after(20)
    assert record.path.read_bytes() == whole[: whole.index(b'{"step": 25')]


def test_a_truncated_and_continued_record_has_the_same_bytes_as_an_uninterrupted_one(record, tmp_path):
    unbroken = StepRecord(tmp_path / "unbroken.jsonl")
    rows = [{"step": step, "train/loss": 1 / step} for step in range(1, 9)]
    for row in rows:
        unbroken.append(row)
    for row in rows[:6]:
        record.append(row)
    with record.path.open("ab") as file:
        file.write(b'{"step": 7, "tra')
    record = StepRecord(record.path)
    record.truncate_after(4)
    for row in rows[4:]:
        record.append(row)
    assert record.path.read_bytes() == unbroken.path.read_bytes()


def test_truncation_with_nothing_to_drop_does_not_rewrite(record):
    record.append({"step": 1})
    inode = record.path.stat().st_ino
    record.truncate_after(1)
    assert record.path.stat().st_ino == inode


def test_replaced_rows_are_the_ones_that_would_have_been_appended(record, tmp_path):
    rows = [{"step": 1, "x": 0.1}, {"step": 2, "x": 1e-300}]
    other = StepRecord(tmp_path / "other.jsonl")
    for row in rows:
        other.append(row)
    record.append({"step": 9})
    record.replace(rows)
    assert record.path.read_bytes() == other.path.read_bytes()
    record.append({"step": 3})
    assert [row["step"] for row in record.read()] == [1, 2, 3]


def test_a_damaged_line_in_the_middle_is_an_error_that_names_it(record):
    record.path.write_bytes(b'{"step": 1}\n{"step": 2, oops}\n{"step": 3}\n')
    with pytest.raises(UserError, match=r"metrics\.jsonl, line 2"):
        StepRecord(record.path).truncate_after(1)
    assert record.path.read_bytes().count(b"\n") == 3


@pytest.mark.parametrize("damage", [b"", b'{"step": 1', None, b'{"step": 1}\n{"step": 2}\n{"step": 9}\n'])
def test_a_record_that_was_damaged_meanwhile_is_written_anew_with_the_next_row(record, damage):
    for step in (1, 2):
        record.append({"step": step})
    record.path.unlink() if damage is None else record.path.write_bytes(damage)
    record.append({"step": 3})
    assert [row["step"] for row in read_rows(record.path)] == [1, 2, 3]


def test_a_record_gets_back_what_a_checkpoint_has_of_it(record):
    record.append({"step": 1, "x": 0.5})
    copy = bytes(record.content)
    record.append({"step": 2, "x": 0.25})
    for content, is_damaged in ((record.content, False), (b'{"step": 1, "x": 0.7}\n', True), (b"", True)):
        record.path.write_bytes(content)
        found = StepRecord(record.path)
        assert found.restore(copy) == is_damaged
        assert found.content == record.path.read_bytes() == copy
    assert StepRecord(record.path).restore(b"") is False, "from the beginning, nothing is lost"


def test_a_record_that_cannot_be_read_is_named(record):
    record.path.mkdir()
    for read in (StepRecord, read_rows):
        with pytest.raises(UserError, match=r"\.jsonl: cannot be read: Is a directory"):
            read(record.path)


def test_a_row_survives_a_kill_right_after_append(tmp_path):
    path = tmp_path / "metrics.jsonl"
    program = (
        "import os, signal, sys; from pathlib import Path; from textgen.reporting.jsonl import StepRecord\n"
        "record = StepRecord(Path(sys.argv[1]))\n"
        "for step in range(50): record.append({'step': step})\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", program, str(path)]).returncode == -9
    assert [row["step"] for row in StepRecord(path).read()] == list(range(50))


def test_a_row_is_synced_and_so_is_the_name_of_a_new_file(record, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.readlink(f"/proc/self/fd/{descriptor}")))
    record.append({"step": 1})
    assert synced == [str(record.path), str(record.path.parent)]
    record.append({"step": 2})
    assert synced[2:] == [str(record.path)]
