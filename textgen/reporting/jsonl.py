"""The append-only logs of a run: ``metrics.jsonl``, ``timing.jsonl``, ``samples.jsonl``, ``events.jsonl``.

The process that writes a record keeps it in memory, about 250 bytes for a row of metrics, and each checkpoint has a
copy of it. So a file that is damaged, during a run or between two, gets the contents again that it had.
"""

import errno
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from textgen.disk import naming
from textgen.errors import UserError
from textgen.files import json_line, mend, read_bytes, sync, write_bytes


class StepRecord:
    """A JSON Lines file of rows with a ``"step"``; a row is on disk when :meth:`append` returns.

    Floats read back bit for bit. One that is not finite raises ``ValueError``: JSON cannot express it, and a run that
    computes one should have stopped.

    Args:
        path: the file; it is created by the first row.

    Attributes:
        content: what the file contains, in memory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.content = bytearray(read_bytes(path) if path.exists() else b"")

    def append(self, row: Mapping[str, Any]) -> None:
        """Write a row as one line, keys in the order given, and wait until it is on disk.

        A file that is not as long as it was after the last row is written anew.
        """
        line = json_line(row)  # raises before the file is touched if JSON cannot express the row
        size = len(self.content)
        self.content += line
        is_new = not self.path.exists()
        if is_new and not self.path.parent.is_dir():  # gone: writing the rows anew would create it again
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.path))
        if size != (0 if is_new else self.path.stat().st_size):
            write_bytes(self.path, bytes(self.content))
            return
        with naming(self.path), self.path.open("ab") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        if is_new:
            sync(self.path.parent)

    def restore(self, copy: bytes) -> bool:
        """Give the record the contents that a checkpoint has of it.

        Returns:
            Whether something was lost of them: the file did not begin with the copy.
        """
        is_damaged = not self.content.startswith(copy)
        self.content[:] = copy
        mend(self.path, self.content)
        return is_damaged

    def replace(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write other rows in place of all that are there, atomically."""
        self.content[:] = b"".join(json_line(row) for row in rows)
        write_bytes(self.path, bytes(self.content))

    def truncate_after(self, step: int) -> None:
        """Remove rows after ``step`` and an incomplete last line, atomically; if there are none, do nothing.

        Raises:
            UserError: a line other than the last is damaged.
        """
        kept = b"".join(line for line, row in _rows(self.path, bytes(self.content)) if row["step"] <= step)
        self.content[:] = kept
        mend(self.path, kept)

    def read(self) -> list[dict[str, Any]]:
        """All complete rows, oldest first; errors as for :meth:`truncate_after`."""
        return [row for _, row in _rows(self.path, bytes(self.content))]


def read_rows(path: Path) -> list[dict[str, Any]]:
    """All complete rows of a record, oldest first; empty if there is no file.

    Raises:
        UserError: the file cannot be read, or a line other than the last is damaged.
    """
    return StepRecord(path).read()


def _rows(path: Path, data: bytes) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """The complete lines of a record's contents, each with its row."""
    lines = re.findall(rb"[^\n]*\n|[^\n]+", data)
    for number, line in enumerate(lines, start=1):
        row = _parse(line)
        if row is not None:
            yield line, row
        elif number < len(lines):  # a crash can only damage the last line
            raise UserError(
                f"{path}, line {number}: not a JSON object with an integer step. Restore the line, or delete it and "
                "all lines after it."
            )


def _parse(line: bytes) -> dict[str, Any] | None:
    """The row in a line; None if the line is incomplete: no newline, not JSON, or no step."""
    if not line.endswith(b"\n"):
        return None
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) and isinstance(row.get("step"), int) else None
