"""Documents of every format, and tables that cannot be read."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reading import error_message, texts

from textgen.data.bundled import python_reference


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("one\ntwo\n\nthree\n", ["one\ntwo", "three"]),
        ("one\ntwo\n \t \n\n\nthree", ["one\ntwo", "three"]),
        ("one\r\ntwo\r\n\r\nthree\r\n", ["one\ntwo", "three"]),
        ("\ufeffone\n\ntwo", ["one", "two"]),
        ("\n\n  indented\n    more\n\n", ["  indented\n    more"]),
        ("a page\fbreak and a line\u2028separator\n\nb", ["a page\fbreak and a line\u2028separator", "b"]),
        ("naïve 🙂\n\n日本", ["naïve 🙂", "日本"]),
    ],
)
def test_blank_lines_separate_the_documents_of_a_text_file(write, content, expected):
    path = write("plays.txt", content)
    assert texts(path) == {f"plays.txt#{i}": text for i, text in enumerate(expected)}


@pytest.mark.parametrize("content", ["one\ntwo\n \nthree\n", "\ufeffone\r\ntwo\r\n \r\nthree\r\n"])
def test_a_text_file_can_be_one_document(write, content):
    assert texts(write("plays.txt", content), one_document=True) == {"plays.txt#0": "one\ntwo\n \nthree\n"}


def test_paragraphs_may_be_longer_than_what_is_read_at_once(write):
    long = "\n".join(f"line {i} " + "x" * 1000 for i in range(12 * 1024))
    found = texts(write("long.txt", f"{long}\n\nshort"))
    assert found == {"long.txt#0": long, "long.txt#1": "short"}


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_a_line_of_json_is_a_document(write, ending):
    lines = ['{"text": "one\\n\\ntwo", "n": 1}', "", '{"text": "   "}', '{"text": null}', '{"text": "naïve \\u00e9"}']
    path = write("rows.jsonl", ending.join(lines))
    assert list(texts(path).values()) == ["one\n\ntwo", "naïve é"]


def test_a_row_of_a_table_is_a_document_quoted_newlines_included(write):
    path = write("rows.csv", 'n,body\n1,"one\n\n""two"", and"\n2,three\n3,\n4,NA\n')
    assert list(texts(path, text_column="body").values()) == ['one\n\n"two", and', "three", "NA"]


def test_a_row_of_a_parquet_file_is_a_document(tmp_path):
    pq.write_table(pa.table({"text": ["one", None, " ", "two"], "n": [1, 2, 3, 4]}), tmp_path / "rows.parquet")
    assert texts(tmp_path / "rows.parquet") == {"rows.parquet#0": "one", "rows.parquet#3": "two"}


def test_the_bundled_corpus_is_read_by_its_name():
    found = texts("python-reference")
    assert list(found.values()) == python_reference()
    assert next(iter(found)).startswith("python-reference#")


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.jsonl", '{"text": "é"}\n\n{"text": "b"\n', "cannot be read as json: line 3 (byte 16) is not valid JSON"),
        ("a.jsonl", '{"text": "a"}\n["b"]\n', "cannot be read as json: line 2 (byte 14) is not a JSON object."),
        ("a.jsonl", '{"text": "\\ud800"}', "cannot be read as json: "),
        ("a.csv", 'text\n"never closed\n', "cannot be read as csv: "),
        ("a.csv", "text,n\na,1\nb,2,3\n", "cannot be read as csv: "),
        ("a.parquet", b"PAR1 and nothing else", "cannot be read as parquet: "),
        ("a.parquet", "text\n", "not a Parquet file: it does not start with PAR1. Check the file extension."),
    ],
)
def test_a_damaged_table_is_named_with_the_line(write, name, content, expected):
    path = write(name, content)
    assert error_message(path).startswith(f"--data {path}: {expected}")


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.jsonl", '{"body": "x", "title": "y"}'), ("a.csv", "body,title\nx,y\n")],
)
def test_a_missing_column_is_named_with_the_existing_ones(write, name, content):
    path = write(name, content)
    message = error_message(path, text_column="txt")
    assert message == f"--text-column txt: --data {path} has no such column. It has: body, title."


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [("a.jsonl", '{"text": 5}', "int"), ("a.jsonl", '{"text": ["a"]}', "list"), ("a.csv", "text\n1.5\n", "float")],
)
def test_a_column_that_is_not_text_is_an_error(write, name, content, kind):
    path = write(name, content)
    assert error_message(path) == f"--text-column text: row 0 of {path}: the value is of type {kind}, not text."
