"""Rows of Parquet and Arrow files as documents."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reading import error_message, texts

VALUES = ["one", None, " ", "two", "one"]
TYPES = {
    "string": pa.string(),
    "large_string": pa.large_string(),
    "string_view": pa.string_view(),
    "dictionary": pa.dictionary(pa.int8(), pa.string()),
    "dictionary of large_string": pa.dictionary(pa.int32(), pa.large_string()),
}


def write_parquet(path: Path, table: pa.Table) -> None:
    pq.write_table(table, path, row_group_size=2)


def write_stream(path: Path, table: pa.Table) -> None:
    with pa.ipc.new_stream(path, table.schema) as stream:
        stream.write_table(table, max_chunksize=2)


def write_file(path: Path, table: pa.Table) -> None:
    with pa.ipc.new_file(path, table.schema) as file:
        file.write_table(table, max_chunksize=2)


WRITERS = [(write_parquet, "a.parquet"), (write_stream, "a.arrow"), (write_file, "a.arrow")]
every_writer = pytest.mark.parametrize(("write_table", "name"), WRITERS, ids=["parquet", "stream", "file"])


@every_writer
@pytest.mark.parametrize("kind", TYPES)
def test_a_row_is_a_document_for_every_type_of_text(tmp_path, write_table, name, kind):
    column = pa.array(VALUES, pa.string())
    column = column.dictionary_encode().cast(TYPES[kind]) if "dictionary" in kind else column.cast(TYPES[kind])
    write_table(tmp_path / name, pa.table({"n": [[1]] * 5, "a.b": column}))
    expected = {f"{name}#0": "one", f"{name}#3": "two", f"{name}#4": "one"}
    assert texts(tmp_path / name, text_column="a.b") == expected


@every_writer
def test_many_rows_are_read_in_order(tmp_path, write_table, name):
    values = [f"text {i}" for i in range(2500)]
    write_table(tmp_path / name, pa.table({"text": values}))
    assert list(texts(tmp_path / name).values()) == values


@every_writer
@pytest.mark.parametrize(
    ("column", "kind"), [([1, 2], "int64"), ([b"x"], "binary"), ([["a"]], "list<"), ([{"a": "b"}], "struct<")]
)
def test_a_column_that_is_not_text_is_an_error(tmp_path, write_table, name, column, kind):
    write_table(tmp_path / name, pa.table({"text": column}))
    message = error_message(tmp_path / name)
    assert message.startswith(f"--text-column text: the column of {tmp_path / name}: the value is of type {kind}")


@every_writer
def test_a_missing_column_is_named_with_the_existing_ones(tmp_path, write_table, name):
    write_table(tmp_path / name, pa.table({f"c{i}": ["x"] for i in range(25)}))
    message = error_message(tmp_path / name)
    assert f"--data {tmp_path / name} has no such column. It has: c0, c1, c2, " in message
    assert ", c19 and 5 more. Examples of a task are in" in message


@every_writer
def test_an_invalid_text_is_an_error_with_its_rows(tmp_path, write_table, name):
    invalid = pa.array([b"fine", b"caf\xe9"]).view(pa.string())
    write_table(tmp_path / name, pa.table({"text": invalid}))
    message = error_message(tmp_path / name)
    assert "a text in rows 0 to 1 is not UTF-8." in message or "Invalid UTF8 sequence at string index 1" in message


@every_writer
def test_a_cut_file_is_an_error(tmp_path, write_table, name):
    write_table(tmp_path / name, pa.table({"text": ["a text that is long enough"] * 100}))
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    assert "cannot be read as " in error_message(tmp_path / name)


def test_a_file_that_is_something_else_is_an_error(write):
    path = write("a.parquet", "text\n")
    expected = "not a Parquet file: it does not start with PAR1. Check the file extension."
    assert error_message(path) == f"--data {path}: {expected}"
    assert "cannot be read as Parquet: " in error_message(write("a.parquet", b"PAR1 and nothing else"))
    assert "cannot be read as Arrow: " in error_message(write("a.arrow", "some text that is no Arrow file"))
