"""Bytes that are not UTF-8, and which encoding they seem to be in."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from textgen.data.formats.text_check import TextCheck
from textgen.errors import UserError

PATH = Path("texts/plays.txt")


def check(content: bytes, sizes: int = 1 << 20) -> TextCheck:
    found = TextCheck(PATH)
    for start in range(0, len(content), sizes):
        found.feed(content[start : start + sizes])
    found.finish()
    return found


def message(content: bytes, sizes: int = 1 << 20) -> str:
    with pytest.raises(UserError) as caught:
        check(content, sizes)
    return str(caught.value)


@given(content=st.binary(), sizes=st.integers(4, 20))
def test_the_first_invalid_byte_is_found_in_pieces_of_any_size(content, sizes):
    content = b"text" + content.replace(b"\0", b"")
    valid = len(content.decode(errors="ignore").encode())
    if valid == len(content):
        check(content, sizes)
        return
    first = int(message(content, sizes).split(" at byte ")[1].split()[0])
    content[:first].decode()
    with pytest.raises(UnicodeDecodeError) as decoding:
        content.decode()
    assert decoding.value.start == first


@pytest.mark.parametrize("text", ["Hello, world. A text.", "Hi.\n", "日本語のテキスト"])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_other_unicode_encodings_are_named_with_the_command_that_converts(encoding, text):
    name = encoding[:6].upper()
    found = message(f"\ufeff{text}".encode(encoding))
    assert found.startswith(f"texts/plays.txt: the text is in {name}, not UTF-8.")
    assert found.endswith(f"Convert it, for example: iconv -f {name} -t UTF-8 plays.txt > converted.txt")


def test_utf_16_without_a_mark_is_recognized_in_both_orders():
    assert "seems to be in UTF-16LE. Convert it, for example: iconv -f UTF-16LE" in message("Hi.\n".encode("utf-16-le"))
    assert "seems to be in UTF-16BE" in message("Hello, world.".encode("utf-16-be"))
    for binary in (b"a\0b", b"\0\0\0\0", b"ab\0c\0d\0", b"a\0bcdefgh"):
        assert "is NUL, so this is a binary file, not text." in message(binary)


@pytest.mark.parametrize(
    ("content", "blank"),
    [(b"", True), (b" \n\t\r\n", True), (b"\xef\xbb\xbf\n\n", True), (b"\xef\xbb\xbfa", False), (b" a", False)],
)
def test_white_space_and_a_byte_order_mark_are_blank(content, blank):
    assert check(content).blank == blank
    assert check(b" " * 10 + content.removeprefix(b"\xef\xbb\xbf"), 4).blank == blank
