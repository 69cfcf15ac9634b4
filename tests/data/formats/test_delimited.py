"""Rows of CSV and TSV as documents; every column is text."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reading import error_message, texts

from textgen.data.formats import delimited
from textgen.data.formats.delimited import csv_separator
from textgen.data.formats.file_to_read import FileToRead


def test_a_row_is_a_document_quoted_newlines_included(write):
    path = write("rows.csv", 'n,body\n1,"one\n\n""two"", and"\n\n2,three\n3,\n4,NA\n5\n')
    assert texts(path, text_column="body") == {
        "rows.csv#0": 'one\n\n"two", and',
        "rows.csv#1": "three",
        "rows.csv#3": "NA",
    }


def test_values_stay_as_they_are_written(write):
    values = ["NA", "None", "nan", "007", "1e5", "1.50", "true", "2026-01-01", " spaces ", "", "NULL", "-"]
    path = write("a.csv", "n,text\n" + "".join(f"1,{value}\n" for value in values))
    assert list(texts(path).values()) == [value for value in values if value]


def test_other_columns_do_not_matter(write):
    rows = ["1,a,x", ",b,", '[1 2],c,"{""k"": 1}"', "\u2028,d,\f", f"{'9' * 5000},e,1e999"]
    assert list(texts(write("a.csv", "\n".join(["n,text,other", *rows]))).values()) == list("abcde")


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_tabs_separate_the_columns_of_a_tsv_file(write, ending):
    path = write("a.tsv", ending.join(["\ufefftext\tn", "one, two\t1", '"three\t"\t2', ""]))
    assert list(texts(path).values()) == ["one, two", "three\t"]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_the_header_says_what_separates_the_columns_of_a_csv_file(write, separator):
    path = write("a.csv", f'\ufeff\n"id"{separator}text\n1{separator}"a{separator}b, c; d"\n')
    assert csv_separator(FileToRead(path)) == separator
    assert list(texts(path).values()) == [f"a{separator}b, c; d"]


@pytest.mark.parametrize("header", ["text", "text,n", "a;b,text", "other", ""])
def test_it_is_the_comma_if_that_gives_the_text_column_or_nothing_does(write, header):
    assert csv_separator(FileToRead(write("a.csv", header + "\n"))) == ","


UTF_8 = st.text(st.characters(codec="utf-8", exclude_characters="\0"))


@given(rows=st.lists(st.tuples(UTF_8, UTF_8)))
def test_what_the_standard_library_writes_is_read(tmp_path_factory, rows):
    written = io.StringIO(newline="")
    csv.writer(written).writerows([("n", "text"), *rows])
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    path.write_bytes(written.getvalue().encode())
    assert list(texts(path).values()) == [text for _, text in rows if text.strip()]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('text\nfine\n"never closed\nmore\n', "line 3: a quote is opened, and not closed by the end of the file."),
        ("text,n\na,1\nb,2,3\n", "line 3 has 3 fields, but the header has 2. Put texts that contain the separator"),
        ('text,n\n"a\nb",1\n\nb,2,\n', "line 5 has 3 fields"),
    ],
)
def test_a_damaged_table_is_named_with_the_line(write, content, expected):
    path = write("a.csv", content)
    assert error_message(path).startswith(f"--data {path}: {expected}")


def test_a_quote_that_is_left_open_does_not_fill_the_memory(write, monkeypatch):
    monkeypatch.setattr(delimited, "LONGEST_TEXT", 100_000)
    path = write("a.csv", 'text\nfine\n"open\n' + "more text\n" * 20_000)
    assert "line 3: field larger than field limit (100000); is a quote left open?" in error_message(path)


def test_a_text_may_be_longer_than_the_standard_librarys_limit(write):
    path = write("a.csv", "text\n" + "x" * 1_000_000 + "\n")
    assert [len(text) for text in texts(path).values()] == [1_000_000]


def test_a_missing_column_is_named_with_the_existing_ones(write):
    path = write("a.csv", "body,title\nx,y\n")
    message = error_message(path, text_column="txt")
    assert message.startswith(f"--text-column txt: --data {path} has no such column. It has: body, title. Examples")
