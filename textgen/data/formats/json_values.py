"""The values of a JSON text, one at a time: elements of one array, or values that follow one another.

The standard library only parses a whole text. Here a buffer grows until the next value in it is complete, so that a
file of any size is read in the memory of its largest value.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, TextIO

from textgen.data.formats.file_to_read import LONGEST_TEXT

_MOST_DIGITS = 4300  # of an integer that Python reads
DECODER = json.JSONDecoder(parse_int=lambda digits: int(digits) if len(digits) < _MOST_DIGITS else float(digits))

_CHUNK_CHARACTERS = 1 << 20
_LONGEST_LITERAL = 20  # characters at the end of the buffer that may be the beginning of something valid
_SPACE = re.compile(r"[ \t\r\n]*")


class JSONDamage(ValueError):
    """A JSON text is invalid; the message says where and why."""


def json_values(stream: TextIO) -> Iterator[tuple[int, Any]]:
    """Each value of a JSON text, with the number of the line it begins in: the elements, if it is one array.

    Raises:
        JSONDamage: the text is not valid JSON.
    """
    text = _Buffer(stream)
    if text.next_character() != "[":
        while text.next_character():
            yield text.line(), text.value()
        return
    text.skip()
    if text.next_character() == "]":
        text.skip()
    else:
        while True:
            text.next_character()
            yield text.line(), text.value()
            separator = text.next_character()
            if separator not in (",", "]"):
                raise text.damage(
                    "Expecting ',' or ']' after an element of the array"
                    if separator
                    else "it ends before the end of the array"
                )
            text.skip()
            if separator == "]":
                break
    if text.next_character():
        raise text.damage("there is more after the end of the array")


class _Buffer:
    """The part of the text that was read and not parsed yet."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._text, self._position = "", 0
        self._line, self._counted = 1, 0  # a position, and the number of its line

    def line(self) -> int:
        """Number of the line that is parsed next."""
        self._line += self._text.count("\n", self._counted, self._position)
        self._counted = self._position
        return self._line

    def skip(self) -> None:
        """Go past one character."""
        self._position += 1

    def next_character(self) -> str:
        """The next character that is not white space, which stays unparsed; empty at the end."""
        while True:
            space = _SPACE.match(self._text, self._position)
            assert space, "it matches nothing, too"
            self._position = space.end()
            if self._position < len(self._text):
                return self._text[self._position]
            if not self._read_more():
                return ""

    def value(self) -> Any:
        """Parse the value that begins here."""
        while True:
            try:
                value, end = DECODER.raw_decode(self._text, self._position)
            except json.JSONDecodeError as error:
                self._extend_after(error)
                continue
            except RecursionError:
                raise self.damage("it is nested too deeply") from None
            if end == len(self._text) and self._read_more():  # a number may go on
                continue
            self._position = end
            return value

    def damage(self, reason: str, position: int | None = None) -> JSONDamage:
        """The error that there is something wrong, here or at a later position."""
        return JSONDamage(f"line {self._line_at(position)} is not valid JSON: {reason}.")

    def _line_at(self, position: int | None) -> int:
        return self.line() + (self._text.count("\n", self._position, position) if position else 0)

    def _extend_after(self, error: json.JSONDecodeError) -> None:
        """Read more if the error may be that the buffer ends too early; otherwise the text is damaged."""
        in_string = error.msg.startswith("Unterminated string")  # its position is the beginning of the string
        if not in_string and error.pos < len(self._text) - _LONGEST_LITERAL:
            raise self.damage(error.msg, error.pos) from None
        if len(self._text) - self._position > LONGEST_TEXT:
            raise self.damage(f"a value has over {LONGEST_TEXT:,} characters, so a quote or bracket is left open")
        parsed = error.pos - self._position
        if not self._read_more():
            raise self.damage(error.msg, self._position + parsed) from None

    def _read_more(self) -> bool:
        # As much again as is left, so that a long value is parsed from its beginning only a few times.
        left = len(self._text) - self._position
        more = self._stream.read(max(_CHUNK_CHARACTERS, left))
        if more:
            self.line()
            self._text, self._position, self._counted = self._text[self._position :] + more, 0, 0
        return bool(more)
