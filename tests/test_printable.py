"""Untrusted text is shown, and nothing in it is interpreted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from textgen.printable import counted, printable


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\tb\nc é 🙂", "a\tb\nc é 🙂"),
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("over\rwritten \x08\x00", r"over\rwritten \x08\x00"),
        ("\x7f \x85 \x9b31m", r"\x7f \x85 \x9b31m"),
        ("\u202etxt.exe\u2066\u200f\u061c", r"\u202etxt.exe\u2066\u200f\u061c"),
        ("a\u2028b", r"a\u2028b"),
        ("caf\udce9", r"caf\udce9"),
    ],
)
def test_what_could_be_interpreted_is_an_escape(text, expected):
    assert printable(text) == expected


@given(st.text())
def test_nothing_that_could_be_interpreted_is_left_and_nothing_else_changes(text):
    shown = printable(text)
    assert all(c in "\t\n" or (c.isprintable() or not c.isspace()) for c in shown if ord(c) < 0xA0)
    assert not set(shown) & set("\x1b\r\x9b\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
    shown.encode()
    assert printable(shown) == shown


def test_a_noun_agrees_with_its_number():
    assert [counted(n, "document") for n in (0, 1, 2, 1234)] == [
        "0 documents",
        "1 document",
        "2 documents",
        "1,234 documents",
    ]
    assert counted(0.5, "epoch") == "0.5 epochs"
