"""Files that are not text, and where."""

import codecs
import hashlib
import os

import pytest
from reading import error_message, texts

from textgen.data.sources.file_checks import check_file
from textgen.errors import UserError

MEBIBYTE = 1 << 20


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "the file is empty."),
        (b" \n\t\r\n " * 1000, "the file contains only white space."),
        (b"\xef\xbb\xbf\n\n", "the file contains only white space."),
        (codecs.BOM_UTF16_LE + "caf\xe9".encode("utf-16-le"), "the text is in UTF-16, not UTF-8. Convert it,"),
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
    if "0x" in expected:
        assert "iconv -f LATIN1 -t UTF-8 plays.txt > converted.txt" in message
        with pytest.raises(UnicodeDecodeError) as decoding:
            content.decode()
        assert int(expected.split()[4]) == decoding.value.start


def test_characters_may_cross_the_chunks_that_are_read(write):
    content = "a" * (MEBIBYTE - 2) + "€" + "b" * (MEBIBYTE - 3) + "🙂"
    assert texts(write("plays.txt", content)) == {"plays.txt#0": content}


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl.gz", "a.arrow"])
def test_the_fingerprint_is_the_sha_256_of_the_file(write, name):
    content = b"some text\n" * 300_000
    assert check_file(write(name, content)) == hashlib.sha256(content).hexdigest()


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.txt")
    for data in (tmp_path / "pipe.txt", tmp_path):
        assert "not a file but a pipe or a device, which cannot be read several times." in error_message(data)


def test_a_link_to_nowhere_is_named(tmp_path):
    (tmp_path / "a.txt").symlink_to("nowhere.txt")
    assert error_message(tmp_path) == f"--data {tmp_path / 'a.txt'}: cannot be read: No such file or directory."


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read every file")
def test_a_file_without_permission_is_named(write):
    path = write("a.txt", "x")
    path.chmod(0)
    with pytest.raises(UserError, match="cannot be read: Permission denied"):
        check_file(path)
