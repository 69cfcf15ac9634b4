"""Tables of delimited columns: CSV and TSV. Every column is text, as it is written: "007", "1e5", "NA"."""

import csv
import itertools
from collections.abc import Iterable, Iterator
from typing import Any

from textgen.data.formats.file_to_read import LONGEST_TEXT, FileToRead, Row, example_columns
from textgen.data.formats.streams import open_text

SEPARATORS = (",", ";", "\t", "|")


def read_csv(file: FileToRead) -> Iterator[Row]:
    """The text column of a table whose first line names the columns; missing values are empty texts.

    The separator is the comma, unless the header has the text column only with one of the other :data:`SEPARATORS`.
    """
    return _read(file, csv_separator(file))


def read_tsv(file: FileToRead) -> Iterator[Row]:
    """As :func:`read_csv`, separated by tabs."""
    return _read(file, "\t")


def csv_separator(file: FileToRead) -> str:
    """The separator of a .csv file, from its header."""
    with open_text(file, newline="") as lines:
        header = next((line for line in lines if line.strip()), "")
    columns = {separator: next(csv.reader([header], delimiter=separator), []) for separator in SEPARATORS}
    found = (s for s, names in columns.items() if file.column in names or example_columns(names))
    return next(found, ",")


def _read(file: FileToRead, separator: str) -> Iterator[Row]:
    # A limit of the whole process, for which there is no other way. Its default, 131,072, is short for a document.
    csv.field_size_limit(LONGEST_TEXT)
    with open_text(file, newline="") as stream:
        lines = _Lines(stream)
        rows = _rows(file, csv.reader(lines, delimiter=separator), lines)
        _, header = next(rows, (0, []))
        if not header:
            return
        columns = file.columns(header)
        indices = [header.index(column) for column in columns]
        for line, row in rows:
            if len(row) > len(header):
                raise file.error(
                    f"line {line} has {len(row)} fields, but the header has {len(header)}. Put texts that contain "
                    f"the separator {separator!r} in double quotes."
                )
            values = [row[index] if index < len(row) else "" for index in indices]
            yield values[0] if columns == (file.column,) else dict(zip(columns, values, strict=True))


class _Lines:
    """Lines, and whether the last one was read."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.ended = False
        self._lines = itertools.chain(lines, self._end())

    def __iter__(self) -> Iterator[str]:
        return self._lines

    def _end(self) -> Iterator[str]:
        self.ended = True
        return
        yield


def _rows(file: FileToRead, reader: Any, lines: _Lines) -> Iterator[tuple[int, list[str]]]:
    """Rows that are not blank, each with the number of the line that it begins in."""
    while True:
        begin = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            reason = f"{error}; is a quote left open?" if "limit" in str(error) else f"{error}."
            raise file.error(f"line {begin}: {reason}") from None
        if row is None:
            return
        if lines.ended:  # the reader wanted another line to complete this row
            raise file.error(f"line {begin}: a quote is opened, and not closed by the end of the file.")
        if row and not (len(row) == 1 and row[0].isspace()):
            yield begin, row
