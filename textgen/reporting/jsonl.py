"""Append-only records of a run: ``metrics.jsonl``, ``timing.jsonl``, ``samples.jsonl``."""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from textgen.errors import UserError
from textgen.files import json_line, sync, write_bytes


class StepRecord:
    """A JSON Lines file with a row per logged step: a row is on disk before :meth:`append` returns.

    Rows hold ``"step"`` and numbers or texts. Floats read back bit for bit; one that is not finite is a ``ValueError``:
    JSON has none, and a run that has one should have stopped.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, row: Mapping[str, Any]) -> None:
        """Write one row as one line, keys in the order given, and wait until it is on disk."""
        is_new = not self.path.exists()
        line = json_line(row)  # a row that JSON cannot express leaves the file as it was
        with self.path.open("ab") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        if is_new:
            sync(self.path.parent)

    def truncate_after(self, step: int) -> None:
        """Drop every row after ``step``, and a last line that a crash cut off; atomically, if there is anything."""
        if not self.path.exists():
            return
        data = self.path.read_bytes()
        kept = b"".join(line for line, row in self._rows(data) if row["step"] <= step)
        if kept != data:
            write_bytes(self.path, kept)

    def read(self) -> list[dict[str, Any]]:
        """Every complete row, oldest first; none if nothing was recorded yet.

        Raises:
            UserError: a line other than the last is damaged.
        """
        if not self.path.exists():
            return []
        return [row for _, row in self._rows(self.path.read_bytes())]

    def _rows(self, data: bytes) -> list[tuple[bytes, dict[str, Any]]]:
        """The complete lines of the file, each with its row."""
        rows = []
        lines = re.findall(rb"[^\n]*\n|[^\n]+", data)
        for number, line in enumerate(lines, start=1):
            row = _parse(line)
            if row is not None:
                rows.append((line, row))
            elif number < len(lines):  # a crash can only damage the last line, so nothing is dropped silently
                raise UserError(
                    f"{self.path}, line {number}: not a row with a step. If the file was edited, restore the line, or "
                    "delete it and every line after it."
                )
        return rows


def _parse(line: bytes) -> dict[str, Any] | None:
    """The row in a line, or None if the line is incomplete: no newline, not JSON, or without a step."""
    if not line.endswith(b"\n"):
        return None
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and isinstance(row.get("step"), int) else None
