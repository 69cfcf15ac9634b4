"""The record of a run: ``metrics.jsonl``, one line a logged step, and files that are never seen half-written."""

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from textgen.errors import UserError


class MetricsRecord:
    """Append-only JSON Lines that outlive a power cut: a row is on the disk before ``append`` returns.

    Rows hold ``"step"`` and numbers. Floats are written so that reading them gives back the same bits, and a number
    that is not finite is a ``ValueError``: JSON has none, and a run that has one should have stopped.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, row: Mapping[str, Any]) -> None:
        """Write one row as one line, keys in the order given, and wait until it is on the disk."""
        is_new = not self.path.exists()
        line = _line(row)  # a row that JSON cannot hold leaves the file as it was
        with self.path.open("ab") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        if is_new:
            _sync_directory(self.path.parent)

    def truncate_after(self, step: int) -> None:
        """Drop every row past ``step``, and a last line that a crash cut off; atomically, and only if there is any."""
        if not self.path.exists():
            return
        data = self.path.read_bytes()
        kept = b"".join(line for line, row in self._rows(data) if row["step"] <= step)
        if kept != data:
            write_bytes(self.path, kept)

    def read(self) -> list[dict[str, Any]]:
        """Every complete row, oldest first; none if nothing was recorded yet."""
        if not self.path.exists():
            return []
        return [row for _, row in self._rows(self.path.read_bytes())]

    def _rows(self, data: bytes) -> list[tuple[bytes, dict[str, Any]]]:
        """The complete lines of the file, each with its row.

        Raises:
            UserError: if a line other than the last is damaged; a crash cannot do that, so nothing is dropped.
        """
        rows = []
        lines = re.findall(rb"[^\n]*\n|[^\n]+", data)
        for number, line in enumerate(lines, start=1):
            row = _parse(line)
            if row is not None:
                rows.append((line, row))
            elif number < len(lines):
                raise UserError(
                    f"{self.path}, line {number} is not a row with a step. Was the file edited? "
                    "Restore the line, or delete it and every line after it."
                )
        return rows


def write_json(path: Path, obj: Any) -> None:
    """Write one JSON value, indented; the file is either the old one or the whole new one, at every moment."""
    write_bytes(path, (json.dumps(obj, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode(*_ENCODING))


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON value a line; the file is either the old one or the whole new one, at every moment."""
    write_bytes(path, b"".join(_line(row) for row in rows))


def write_bytes(path: Path, data: bytes) -> None:
    """Replace a file by way of a temporary one beside it, synced before the rename and its directory after.

    Makes the directory if there is none. What fails, fails before the old file is touched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")  # a fixed name: what a kill leaves behind, the next write removes
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


# Half a surrogate pair is a valid string but not valid UTF-8; Python's escape for it is also JSON's.
_ENCODING = ("utf-8", "backslashreplace")


def _line(row: Mapping[str, Any]) -> bytes:
    return (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n").encode(*_ENCODING)


def _parse(line: bytes) -> dict[str, Any] | None:
    """The row in a line, or None if the line is torn: no newline, not JSON, or no step in it."""
    if not line.endswith(b"\n"):
        return None
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and isinstance(row.get("step"), int) else None


def _sync_directory(directory: Path) -> None:
    """Make a new name in the directory survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
