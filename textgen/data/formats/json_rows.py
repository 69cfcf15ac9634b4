"""JSON: lines, each an object (.jsonl), or an array of objects (.json)."""

import codecs
import json
from collections.abc import Iterator
from typing import Any

from textgen.data.formats.file_to_read import FileToRead, Row, example_columns
from textgen.data.formats.json_values import DECODER, JSONDamage, json_values
from textgen.data.formats.streams import open_bytes, open_text
from textgen.data.formats.well_formed import well_formed

_ROWS_TO_FIND_THE_COLUMN = 10_000  # without it in as many, a file is not read to its end


def read_json_lines(file: FileToRead) -> Iterator[Row]:
    """The text of each line's object; blank lines are skipped, and a missing key or null is an empty text.

    A file that begins with "[" is read as :func:`read_json` does.
    """
    with open_bytes(file) as stream:
        is_array = stream.peek().removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"[")  # type: ignore[attr-defined]
        if not is_array:
            yield from _rows(_lines(file, stream), file)
    if is_array:
        yield from read_json(file)


def read_json(file: FileToRead) -> Iterator[Row]:
    """The text of each object: the elements of an array, or objects that follow one another, such as lines.

    Elements of an array may also be the texts themselves.
    """
    with open_text(file) as stream:
        try:
            yield from _rows(((f"line {line}", value) for line, value in json_values(stream)), file)
        except JSONDamage as damage:
            raise file.error(str(damage)) from None


def _lines(file: FileToRead, stream: Any) -> Iterator[tuple[str, Any]]:
    offset = 0
    for number, line in enumerate(stream, 1):
        text = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
        if not text.isspace():
            place = f"line {number} (byte {offset})"
            try:
                row = DECODER.decode(text.decode("utf-8"))
            except json.JSONDecodeError as error:
                raise file.error(f"{place} is not valid JSON: {error.msg}.") from None
            except RecursionError:
                raise file.error(f"{place} is nested too deeply.") from None
            if not isinstance(row, dict):
                raise file.error(f"{place} is not a JSON object.")
            yield place, row
        offset += len(line)


def _rows(rows: Iterator[tuple[str, Any]], file: FileToRead) -> Iterator[Row]:
    column, found, others = file.column, False, dict[str, None]()
    for number, (place, row) in enumerate(rows):
        if isinstance(row, str):
            found = True
            yield well_formed(row)
        elif not isinstance(row, dict):
            raise file.error(f"{place} is not a JSON object.")
        elif column in row:
            found = True
            text = row[column]
            if isinstance(text, str):
                yield well_formed(text)
            elif text is None:
                yield ""
            else:
                raise file.not_text(place, type(text).__name__)
        elif example_columns(row):
            found = True
            yield row
        else:
            if not found:
                others |= dict.fromkeys(row)
                if number == _ROWS_TO_FIND_THE_COLUMN:
                    break
            yield ""
    if others and not found:
        raise file.no_column(others)
