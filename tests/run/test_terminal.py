"""Printing works whatever the terminal's encoding is."""

import io
import subprocess
import sys

import pytest

from textgen.run.terminal import print_on_any_terminal


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


def test_invalid_bytes_on_reading_are_still_errors():
    code = "from textgen.run.terminal import print_on_any_terminal as p; p(); b'\\xe9'.decode('utf-8', 'textgen-ascii')"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "UnicodeDecodeError" in ended.stderr
