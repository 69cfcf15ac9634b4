"""Errors about a file name it, and the flag."""

from pathlib import Path

from textgen.data.formats.file_to_read import FileToRead

FILE = FileToRead(Path("a/b.csv"), "--validation-data", "body")


def test_errors_name_the_flag_and_the_file():
    assert str(FILE.error("damaged.")) == "--validation-data a/b.csv: damaged."
    assert str(FILE.no_column(["x", 5])) == (
        "--text-column body: --validation-data a/b.csv has no such column. It has: x, 5. Examples of a task are in the "
        "columns prompt and completion, messages, or conversations."
    )
    assert str(FILE.not_text("line 3", "int")) == (
        "--text-column body: line 3 of a/b.csv: the value is of type int, not text."
    )
