"""Which format a file's name says it has."""

from pathlib import Path

import pytest

from textgen.data.formats.table import FORMATS, SUPPORTED, extension_of, find_format, is_compressed


@pytest.mark.parametrize("extension", FORMATS)
def test_the_extension_names_the_format(extension):
    assert find_format(Path(f"dir.d/a.b{extension.upper()}")) is FORMATS[extension]
    assert not is_compressed(Path(f"a{extension}"))
    compressed = find_format(Path(f"a{extension}.gz"))
    assert compressed is (FORMATS[extension] if FORMATS[extension].is_text else None)


@pytest.mark.parametrize("name", ["a", "a.md", ".txt", "a.gz", "a.md.gz", "a.txt.bz2", "txt.gz", "a.txt.gz.gz"])
def test_other_names_have_none(name):
    assert find_format(Path(name)) is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.TXT", ".txt"), ("a.b.jsonl.GZ", ".jsonl.gz"), ("a", ""), ("a.gz", ".gz"), ("v1.2.md", ".md")],
)
def test_the_extension_includes_that_of_the_compression(name, expected):
    assert extension_of(Path(name)) == expected


def test_messages_list_every_extension():
    assert all(extension in SUPPORTED for extension in (*FORMATS, ".gz", ".zst"))
