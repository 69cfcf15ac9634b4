"""Atomic writes, and reading JSON with errors that name the file."""

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from textgen.disk import naming
from textgen.errors import UserError

# A lone surrogate is valid in a Python string but not in UTF-8; Python's escape for it is the same as JSON's.
_ENCODING = ("utf-8", "backslashreplace")

RESTORE = "Restore the file, or delete it."


def user_path(name: str, *, setting: str) -> Path:
    """A path that the user named, in which ``~`` is the home directory: shells do not expand it in every place.

    Args:
        name: the path as given.
        setting: the flag that named it, for error messages.

    Raises:
        UserError: there is no such home directory.
    """
    try:
        return Path(name).expanduser()
    except RuntimeError:
        raise UserError(f"{setting} {name}: there is no home directory. Write out the whole path.") from None


def write_json(path: Path, value: Any) -> None:
    """Write one JSON value, indented, atomically: readers see the old file or the complete new one.

    Raises:
        ValueError: the value contains a number that is not finite, which JSON cannot represent.
    """
    write_bytes(path, json_bytes(value))


def json_bytes(value: Any) -> bytes:
    """What :func:`write_json` writes."""
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode(*_ENCODING)


def json_line(row: Mapping[str, Any]) -> bytes:
    """A row as one line of JSON, including the newline; floats read back bit for bit."""
    return (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n").encode(*_ENCODING)


def write_bytes(path: Path, data: bytes) -> None:
    """Replace a file atomically; it is on disk when this returns.

    The data is written to a temporary file in the same directory, which is synced and renamed; then the directory is
    synced. The directory is created if needed. If writing fails, the old file is unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")  # a fixed name: the next write replaces what a kill left
    try:
        with naming(path), temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


def overwrite(path: Path, data: bytes) -> None:
    """Replace the contents of an existing small file in place, which needs no space: only for a disk that is full.

    A machine that breaks down meanwhile leaves a mixture of both contents.
    """
    with path.open("r+b") as file:
        file.write(data)
        file.truncate()


def mend(path: Path, data: bytes | bytearray) -> bool:
    """Give a file the contents that it should have, if it has others; returns whether it had others."""
    try:
        if path.read_bytes() == data:
            return False
    except OSError:
        if not data and not path.exists():
            return False
    write_bytes(path, bytes(data))
    return True


def remove(path: Path) -> None:
    """Delete a file, a link, or a directory with all that is in it, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Flush a file to disk, or a directory: the files that were created or renamed in it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_bytes(path: Path, remedy: str = RESTORE) -> bytes:
    """The contents of a file; ``remedy`` is what the error message tells the user to do.

    Raises:
        UserError: it cannot be read, such as a directory of that name.
    """
    with _open(path, remedy) as file:
        return file.read()


def read_utf8(path: Path, remedy: str = RESTORE) -> str:
    """The contents of a text file.

    Raises:
        UserError: it cannot be read, or is not UTF-8.
    """
    try:
        return read_bytes(path, remedy).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}. {remedy}") from None


def _open(path: Path, remedy: str) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}. {remedy}") from None


def read_json(path: Path, remedy: str = RESTORE) -> dict[str, Any]:
    """The JSON object in a file; empty if the file does not exist.

    Args:
        path: the file.
        remedy: what error messages tell the user to do.

    Raises:
        UserError: it cannot be read, or is not a JSON object.
    """
    return parse_json(read_bytes(path, remedy), path, remedy) if path.exists() else {}


def parse_json(data: bytes, path: Path, remedy: str = RESTORE) -> dict[str, Any]:
    """The JSON object in the contents of a file; arguments and errors as for :func:`read_json`."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON ({error}). {remedy}") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: not a JSON object. {remedy}")
    return value


def parse_jsonl(lines: Iterable[bytes], path: Path, remedy: str = RESTORE) -> Iterator[dict[str, Any]]:
    """The rows in the lines of a JSON Lines file, one at a time.

    Args:
        lines: bytes, so that invalid UTF-8 is found by ``json.loads``.
        path: the file that they come from.
        remedy: what error messages tell the user to do.

    Raises:
        UserError: a line is not JSON; the message contains its number.
    """
    for number, line in enumerate(lines, start=1):
        try:
            yield json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}, line {number}: not valid JSON ({error}). {remedy}") from None
