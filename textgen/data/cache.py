"""Where tokenized and downloaded data, and what is known about data files, is kept between runs."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from textgen.checksums import write_sealed
from textgen.errors import UserError
from textgen.files import remove
from textgen.run.writable import check_writable

_REMEDY = "Set TEXTGEN_CACHE to a directory that you can write to."


def cache_directory(kind: str = "tokens") -> Path:
    """``$TEXTGEN_CACHE``, or ``textgen`` in the user's cache directory; in it, the directory for one kind of data.

    Raises:
        UserError: neither is set, and there is no home directory.
    """
    default = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "textgen"
    try:
        return Path(os.environ.get("TEXTGEN_CACHE") or default).expanduser() / kind
    except RuntimeError:
        raise UserError(f"$TEXTGEN_CACHE: it is not set, and there is no home directory. {_REMEDY}") from None


def check_cache() -> None:
    """Check that the cache is writable, or can be created; nothing is touched.

    Raises:
        UserError: it is not.
    """
    try:
        check_writable(cache_directory(), setting="$TEXTGEN_CACHE")
    except UserError as error:
        message = str(error)
        raise UserError(message if _REMEDY in message else f"{message} {_REMEDY}") from None


def create_cache(kind: str = "tokens") -> Path:
    """The directory for one kind of data, which is created if needed.

    Raises:
        UserError: it cannot be written.
    """
    check_cache()
    path = cache_directory(kind)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"$TEXTGEN_CACHE {path}: cannot be written: {error.strerror}. {_REMEDY}") from None
    return path


@contextmanager
def cache_lock(path: Path) -> Iterator[None]:
    """Let one process at a time write to a file or directory of the cache: there is a lock beside it.

    Raises:
        UserError: something is in the lock's place.
    """
    from filelock import FileLock

    lock = FileLock(f"{path}.lock")
    try:
        lock.acquire()
    except OSError as error:
        raise UserError(
            f"$TEXTGEN_CACHE {path}.lock: cannot be locked: {error.strerror}. Delete it, or set TEXTGEN_CACHE to "
            "another directory."
        ) from None
    try:
        yield
    finally:
        lock.release()


def write_to_cache(path: Path, value: dict[str, Any]) -> None:
    """Write a sealed JSON object, also over something that does not belong there."""
    if not path.is_file():
        remove(path)
    write_sealed(path, value)
