"""Text files: paragraphs, or the whole file as one text."""

from collections.abc import Iterator

from textgen.data.formats.file_to_read import FileToRead, Row
from textgen.data.formats.streams import open_text


def read_text(file: FileToRead) -> Iterator[Row]:
    """The paragraphs of a text file: runs of lines between blank ones; lines of only white space count as blank.

    With ``one_document``, the whole file. Line ends become newline characters, and byte order marks are removed;
    joined files also contain them at the beginning of later lines.
    """
    with open_text(file) as stream:
        if file.one_document:
            yield stream.read()
            return
        lines: list[str] = []
        for line in stream:
            text = line.removesuffix("\n").removeprefix("\ufeff")
            if text.strip():
                lines.append(text)
            elif lines:
                yield "\n".join(lines)
                lines = []
        if lines:
            yield "\n".join(lines)
