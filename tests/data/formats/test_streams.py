"""Compressed text files, and what is wrong with files when they are read."""

import gzip
from collections.abc import Callable

import pyarrow as pa
import pytest
from reading import error_message, texts

from textgen.data.formats.file_to_read import FileToRead
from textgen.data.formats.streams import open_bytes, open_text
from textgen.errors import UserError


def zstandard(data: bytes) -> bytes:
    return pa.compress(data, codec="zstd", asbytes=True)


COMPRESS: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".zst": zstandard}
FORMATS = {
    ".txt": "naïve\n\ntwo",
    ".jsonl": '{"text": "naïve"}\n{"text": "two"}\n',
    ".json": '[{"text": "naïve"}, {"text": "two"}]',
    ".csv": "text\nnaïve\ntwo\n",
    ".tsv": "text\tn\nnaïve\t1\ntwo\t2\n",
}


@pytest.mark.parametrize("compression", COMPRESS)
@pytest.mark.parametrize("extension", FORMATS)
def test_every_text_format_can_be_compressed(write, compression, extension):
    name = f"a{extension}{compression.upper() if extension == '.txt' else compression}"
    path = write(name, COMPRESS[compression](FORMATS[extension].encode()))
    assert texts(path) == {f"{name}#0": "naïve", f"{name}#1": "two"}


@pytest.mark.parametrize("compression", COMPRESS)
def test_parts_that_were_joined_are_read_to_the_end(write, compression):
    parts = [COMPRESS[compression](text.encode()) for text in ("one\n", "\ntwo\n")]
    assert list(texts(write(f"a.txt{compression}", b"".join(parts))).values()) == ["one", "two"]


@pytest.mark.parametrize("compression", COMPRESS)
def test_damaged_compressed_data_is_an_error(write, compression):
    whole = COMPRESS[compression](("".join(f"line {i}\n" for i in range(10_000))).encode())
    for broken in (whole[:-8], whole[: len(whole) // 2], b"something else", whole + b"more"):
        path = write(f"a.txt{compression}", broken)
        assert error_message(path).startswith(f"--data {path}: damaged after ")


@pytest.mark.parametrize("compression", COMPRESS)
def test_bytes_are_counted_in_the_decompressed_text(write, compression):
    path = write(f"a.txt{compression}", COMPRESS[compression](b"text\n" * 100_000 + b"caf\xe9 au lait"))
    command = {".gz": "gzip -dc", ".zst": "zstd -dc"}[compression]
    assert error_message(path) == (
        f"--data {path}: not UTF-8 at byte 500003 (0xe9). Convert it, for example: {command} {path.name} | "
        "iconv -f LATIN1 -t UTF-8 > converted.txt"
    )


@pytest.mark.parametrize("content", [b"fine\n" * 60_000 + b"\0", b"caf\xe9", b"cut: \xe2\x82"])
def test_damage_is_found_by_reading_too(write, content):
    """A file whose content is known is not checked again."""
    path = write("a.txt", content)
    with pytest.raises(UserError) as caught, open_text(FileToRead(path, "--here")) as stream:
        stream.read()
    assert str(caught.value).startswith(f"--here {path}: ")


def test_a_file_that_cannot_be_opened_is_an_error(tmp_path):
    for name in ("a.txt", "a.txt.gz", "a.txt.zst"):
        with pytest.raises(UserError, match=r"--data .*a\.txt.*: cannot be read: .*[Nn]o such file"):
            open_bytes(FileToRead(tmp_path / name))


def test_the_file_is_closed_with_the_stream(write):
    stream = open_text(FileToRead(write("a.txt", "text")))
    source = stream.buffer.raw._source  # type: ignore[attr-defined]
    stream.close()
    assert source.closed
