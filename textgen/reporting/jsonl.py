"""The append-only logs of a run: ``metrics.jsonl``, ``timing.jsonl``, ``samples.jsonl``, ``events.jsonl``."""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from textgen.disk import naming
from textgen.errors import UserError
from textgen.files import json_line, read_bytes, sync, write_bytes


class StepRecord:
    """A JSON Lines file of rows with a ``"step"``; a row is on disk when :meth:`append` returns.

    Floats read back bit for bit. One that is not finite raises ``ValueError``: JSON cannot express it, and a run that
    computes one should have stopped.

    Args:
        path: the file; it is created by the first row.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, row: Mapping[str, Any]) -> None:
        """Write a row as one line, keys in the order given, and wait until it is on disk."""
        is_new = not self.path.exists()
        line = json_line(row)  # raises before the file is touched if JSON cannot express the row
        with naming(self.path), self.path.open("ab") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        if is_new:
            sync(self.path.parent)

    def truncate_after(self, step: int) -> None:
        """Remove rows after ``step`` and an incomplete last line, atomically; if there are none, do nothing.

        Raises:
            UserError: as :meth:`read`.
        """
        if not self.path.exists():
            return
        data = read_bytes(self.path)
        kept = b"".join(line for line, row in self._rows(data) if row["step"] <= step)
        if kept != data:
            write_bytes(self.path, kept)

    def read(self) -> list[dict[str, Any]]:
        """All complete rows, oldest first; empty if there is no file.

        Raises:
            UserError: the file cannot be read, or a line other than the last is damaged.
        """
        if not self.path.exists():
            return []
        return [row for _, row in self._rows(read_bytes(self.path))]

    def _rows(self, data: bytes) -> list[tuple[bytes, dict[str, Any]]]:
        """The complete lines of the file's contents, each with its row."""
        rows = []
        lines = re.findall(rb"[^\n]*\n|[^\n]+", data)
        for number, line in enumerate(lines, start=1):
            row = _parse(line)
            if row is not None:
                rows.append((line, row))
            elif number < len(lines):  # a crash can only damage the last line
                raise UserError(
                    f"{self.path}, line {number}: not a JSON object with an integer step. Restore the line, or "
                    "delete it and all lines after it."
                )
        return rows


def _parse(line: bytes) -> dict[str, Any] | None:
    """The row in a line; None if the line is incomplete: no newline, not JSON, or no step."""
    if not line.endswith(b"\n"):
        return None
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and isinstance(row.get("step"), int) else None
