"""Files that are not text, and where."""

import pytest
from reading import error_message, texts

MEBIBYTE = 1 << 20


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "the file is empty."),
        (b" \n\t\r\n " * 1000, "the file contains only white space."),
        (b"abc\0def", "byte 3 is NUL, so this is a binary file, not text."),
        (b"a" * MEBIBYTE + b"b\0", f"byte {MEBIBYTE + 1} is NUL"),
        (b"caf\xe9 au lait", "not UTF-8 at byte 3 (0xe9)"),
        (b"a\n" * (3 * MEBIBYTE // 2) + b"caf\xe9", f"not UTF-8 at byte {3 * MEBIBYTE + 3} (0xe9)"),
        (b"a" * (MEBIBYTE - 1) + b"\xe9 au lait", f"not UTF-8 at byte {MEBIBYTE - 1} (0xe9)"),
        (b"a" * MEBIBYTE + b"\xe9 au lait", f"not UTF-8 at byte {MEBIBYTE} (0xe9)"),
        (b"a" * (MEBIBYTE - 2) + b"\xe2\x82\x28", f"not UTF-8 at byte {MEBIBYTE - 2} (0xe2)"),
        (b"the end is cut: \xe2\x82", "not UTF-8 at byte 16 (0xe2)"),
        (b"a" * (MEBIBYTE - 1) + b"\xf0", f"not UTF-8 at byte {MEBIBYTE - 1} (0xf0)"),
    ],
)
def test_a_file_that_is_not_text_is_named_with_the_byte(write, content, expected):
    path = write("plays.txt", content)
    message = error_message(path)
    assert message.startswith(f"--data {path}: {expected}")
    if "UTF-8" in expected:
        assert "iconv -f LATIN1 -t UTF-8 plays.txt > converted.txt" in message
        with pytest.raises(UnicodeDecodeError) as decoding:
            content.decode()
        assert int(expected.split()[4]) == decoding.value.start


def test_characters_may_cross_the_chunks_that_are_read(write):
    content = "a" * (MEBIBYTE - 2) + "€" + "b" * (MEBIBYTE - 3) + "🙂"
    assert texts(write("plays.txt", content)) == {"plays.txt#0": content}
