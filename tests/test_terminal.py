"""Printing works whatever the terminal's encoding is."""

import io
import subprocess
import sys

import pytest

from textgen import terminal
from textgen.terminal import print_on_any_terminal, styled


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("ascii", r"-0.312 (0.2-0.4) 3 | 4... caf\xe9 \u65e5 \U0001f642"),
        ("latin-1", r"-0.312 (0.2-0.4) 3 · 4... café \u65e5 \U0001f642"),
        ("utf-8", "−0.312 (0.2–0.4) 3 · 4… café 日 🙂"),
    ],
)
def test_missing_characters_are_written_as_similar_ones_or_escapes(monkeypatch, encoding, expected):
    for name in ("stdout", "stderr"):
        written = io.BytesIO()
        monkeypatch.setattr(sys, name, io.TextIOWrapper(written, encoding))
        print_on_any_terminal()
        print("−0.312 (0.2–0.4) 3 · 4… café 日 🙂", file=getattr(sys, name), flush=True)
        assert written.getvalue().decode(encoding) == expected + "\n"


def test_a_stream_without_an_encoding_stays_as_it_is(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    print_on_any_terminal()
    print("−")
    assert sys.stdout.getvalue() == "−\n"  # type: ignore[attr-defined]


def captured(monkeypatch):
    """Bytes that are written to standard output and standard error from now on."""
    written = {name: io.BytesIO() for name in ("stdout", "stderr")}
    for name, raw in written.items():
        monkeypatch.setattr(sys, name, io.TextIOWrapper(raw, "utf-8", write_through=True))
    return written


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_nothing_printed_has_control_characters_or_secrets(monkeypatch, name):
    streams = captured(monkeypatch)
    monkeypatch.setenv("HF_TOKEN", "cAnArY-7f3a")
    print_on_any_terminal()
    print_on_any_terminal()  # once is enough
    stream = getattr(sys, name)
    print("a\x1b[31m\rb\x9b\u202e", "\rc", "cAnArY-7f3a", "https://u:pw@h/x", file=stream, flush=True)
    stream.writelines(["\x07", "d\n"])
    assert streams[name].getvalue().decode() == (
        r"a\x1b[31m\rb\x9b\u202e \rc *** https://***@h/x" + "\n" + r"\x07d" + "\n"
    )
    assert stream.encoding == "utf-8"
    assert not stream.isatty()
    stream.close()
    print("still open", file=stream)


def test_a_traceback_too(tmp_path):
    program = (
        "from textgen.terminal import print_on_any_terminal as p; p(); raise ValueError('\\x1b[31m https://u:pw@h/x')"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert r"ValueError: \x1b[31m https://***@h/x" in ended.stderr


def test_a_program_that_styles_its_output_writes_to_the_stream_itself(monkeypatch):
    streams = captured(monkeypatch)
    print_on_any_terminal()
    styled(sys.stdout).write("\x1b[1mbold")
    assert streams["stdout"].getvalue() == b"\x1b[1mbold"
    other = io.StringIO()
    assert styled(other) is other


def test_progress_bars_of_libraries_redraw_their_line_on_a_terminal_only(monkeypatch):
    streams = captured(monkeypatch)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    print_on_any_terminal()
    for stream in (sys.stdout, sys.stderr):
        stream.write("\r50 %\r")
    assert streams["stderr"].getvalue() == b"\r50 %\\r"
    assert streams["stdout"].getvalue() == b"\\r50 %\\r"


def test_invalid_bytes_on_reading_are_still_errors():
    code = "from textgen.terminal import print_on_any_terminal as p; p(); b'\\xe9'.decode('utf-8', 'textgen-ascii')"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "UnicodeDecodeError" in ended.stderr


def test_quietly_only_warnings_are_printed(capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    assert not terminal.is_quiet()
    terminal.print_warnings_only()
    terminal.print_warnings_only()
    print("step 1")
    print("warning: ", end="")
    print("the disk is full")
    print("an error", file=sys.stderr)
    styled = terminal.styled(sys.stdout)
    styled.write("a table\n")
    assert terminal.is_quiet()
    assert capsys.readouterr() == ("warning: the disk is full\n", "an error\n")
