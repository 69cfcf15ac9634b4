"""Progress on a real terminal and in a pipe: what is shown, when, by which process, and what other lines look like."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from on_terminal import lines_left, plain, run_on_terminal

from textgen.progress import duration, status

QUICK = "import sys, time, textgen.progress as it; it.BAR_AFTER, it.LINE_AFTER, it.LINE_EVERY = 0.05, 0.05, 0.05\n"
WORK = """
with it.progress("tokenizing", total=4, unit="documents") as advance:
    for number in range(4):
        time.sleep(0.2)
        advance(1)
        print(f"line {number}", flush=True)
print("end")
"""


def run_in_pipes(program: str, **environment: str) -> tuple[str, str]:
    """Standard output and standard error of a program."""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=os.environ | environment
    )
    return done.stdout, done.stderr


def test_a_pipe_gets_lines_with_rate_and_time_left() -> None:
    output, errors = run_in_pipes(QUICK + WORK)
    assert output.splitlines() == ["line 0", "line 1", "line 2", "line 3", "end"]
    lines = errors.splitlines()
    assert len(lines) >= 3
    assert all(line.startswith("tokenizing: ") and "\x1b" not in line for line in lines)
    assert re.fullmatch(r"tokenizing: 0:00 so far", lines[0])
    assert re.fullmatch(r"tokenizing: [123] of 4 documents · (25|50|75) % · [\d.]+ documents/s · 0:0\d left", lines[-1])


def test_short_work_shows_nothing() -> None:
    program = "from textgen.progress import progress\nwith progress('loading'): pass\nprint('end')"
    assert run_in_pipes(program) == ("end\n", "")
    assert run_on_terminal(program) == "end\r\n"


def test_a_terminal_gets_a_bar_that_is_gone_at_the_end() -> None:
    received = run_on_terminal(QUICK + WORK)
    assert re.search(r"tokenizing.*━.*[123] of 4 documents · .* documents/s · 0:0\d left", received)
    assert lines_left(received) == ["line 0", "line 1", "line 2", "line 3", "end"]


def test_the_bar_is_as_long_as_there_is_room() -> None:
    for columns in (72, 100):
        received = run_on_terminal(QUICK + WORK, columns=columns)
        assert re.search(r"documents/s · 0:0\d left", received)
        lengths = {len(line) for line in re.findall("tokenizing[^\r\n]*", plain(received))}
        assert max(lengths) == columns


def test_with_a_bar_standard_output_still_goes_to_its_file(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as file:
        received = run_on_terminal(QUICK + WORK, stdout=file.fileno())
    assert "tokenizing" in received
    assert "line" not in received
    assert (tmp_path / "out").read_text().splitlines() == ["line 0", "line 1", "line 2", "line 3", "end"]


def test_work_without_parts_shows_how_long_it_has_been_running() -> None:
    program = QUICK + "with it.progress('loading gpt2'): time.sleep(0.5)"
    assert "loading gpt2: 0:00 so far" in run_in_pipes(program)[1]
    received = run_on_terminal(program)
    assert re.search(r"loading gpt2.*0:0\d so far", received)
    assert lines_left(received) == []


def test_a_terminal_without_control_sequences_gets_lines() -> None:
    received = run_on_terminal(QUICK + WORK, TERM="dumb")
    assert "\x1b" not in received
    assert "tokenizing: " in received


def test_inside_other_work_no_second_bar_is_drawn() -> None:
    program = QUICK + "with it.progress('outer'):\n time.sleep(0.5)\n with it.progress('inner'): time.sleep(0.5)"
    received = run_on_terminal(program)
    assert "outer" in received
    assert "inner" not in received


@pytest.mark.parametrize("variables", [{"RANK": "1", "LOCAL_RANK": "0"}, {"LOCAL_RANK": "1"}])
def test_other_processes_show_nothing(variables: dict[str, str]) -> None:
    assert run_in_pipes(QUICK + WORK, **variables)[1] == ""
    assert run_in_pipes(QUICK + WORK, RANK="0", LOCAL_RANK="0")[1] != ""


def test_an_error_in_the_work_passes_and_ends_the_bar() -> None:
    program = QUICK + (
        "try:\n with it.progress('loading'):\n  time.sleep(0.5)\n  raise ValueError('as it was')\n"
        "except ValueError as error: print(error)"
    )
    assert lines_left(run_on_terminal(program)) == ["as it was"]


def test_status() -> None:
    assert status(1200, 5000, "documents", 10) == "1,200 of 5,000 documents · 24 % · 120 documents/s · 0:32 left"
    assert status(1.2e9, 3e9, "bytes", 60) == "1.2 GB of 3.0 GB · 40 % · 20.0 MB/s · 1:30 left"
    assert status(1.2e9, None, "bytes", 60) == "1.2 GB · 20.0 MB/s"
    assert status(3, 16, "batches", 12) == "3 of 16 batches · 19 % · 0.25 batches/s · 0:52 left"
    assert status(0, 16, "batches", 75) == status(0, None, "", 75) == "1:15 so far"
    assert status(999, 2e13, "bytes", 1) == "999 B of 20.0 TB · 0 % · 999 B/s · 5561116:40:19 left"


def test_durations() -> None:
    assert [duration(seconds) for seconds in (0, 42.4, 725, 3600, 90061, -1)] == [
        "0:00", "0:42", "12:05", "1:00:00", "25:01:01", "0:00",
    ]  # fmt: skip
