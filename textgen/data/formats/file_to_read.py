"""What to read from a file, and the errors that name the file."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textgen.errors import UserError

Row = str | dict[str, Any]  # what a reader reads: a text, or the columns of an example of a task
PAIR, CHAT, SHAREGPT = ("prompt", "completion"), "messages", "conversations"  # the columns of examples

LONGEST_TEXT = 1 << 27  # characters; a longer value is a quote or bracket that was left open, and would fill the memory
_SHOWN_COLUMNS = 20


def example_columns(columns: Collection[str]) -> tuple[str, ...]:
    """The columns of a table that hold examples of a task; none if it has no such columns."""
    if CHAT in columns:
        return (CHAT,)
    if set(PAIR) <= set(columns):
        return PAIR
    return (SHAREGPT,) if SHAREGPT in columns else ()


@dataclass(frozen=True)
class FileToRead:
    """A file, and what its reader needs to know.

    Attributes:
        path: where it is.
        setting: the flag that named the data, for error messages.
        column: the column or key that contains the text, in tables and JSON.
        one_document: take a .txt file as one text.
    """

    path: Path
    setting: str = "--data"
    column: str = "text"
    one_document: bool = False

    def error(self, reason: str) -> UserError:
        """An error that names the flag and the file."""
        return UserError(f"{self.setting} {self.path}: {reason}")

    def columns(self, there: Collection[str]) -> tuple[str, ...]:
        """The columns to read of those of a table: that of the text, or else those of examples.

        Raises:
            UserError: it has neither.
        """
        if self.column in there:
            return (self.column,)
        if found := example_columns(there):
            return found
        raise self.no_column(there)

    def no_column(self, columns: Iterable[object]) -> UserError:
        """The error that the file has other columns."""
        names = [str(name) for name in columns]
        more = f" and {len(names) - _SHOWN_COLUMNS} more" if len(names) > _SHOWN_COLUMNS else ""
        return UserError(
            f"--text-column {self.column}: {self.setting} {self.path} has no such column. "
            f"It has: {', '.join(names[:_SHOWN_COLUMNS])}{more}. Examples of a task are in the columns "
            f"{' and '.join(PAIR)}, {CHAT}, or {SHAREGPT}."
        )

    def not_text(self, place: str, kind: str) -> UserError:
        """The error that the column contains something else than text.

        Args:
            place: such as "line 3".
            kind: the type that was found.
        """
        return UserError(f"--text-column {self.column}: {place} of {self.path}: the value is of type {kind}, not text.")
