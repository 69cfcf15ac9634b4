"""Disks that are full, read-only or gone: one message that says what could not be written, and why."""

import errno
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from textgen.errors import UserError

FULL = (errno.ENOSPC, errno.EDQUOT)
"""The system's numbers of these errors: the disk is full, or the quota is used up."""
_AGAIN = "and run the same command again: what was saved before is whole, and it goes on from there."
_REASONS = {
    errno.ENOSPC: ("the disk is full", f"Free some space, {_AGAIN}"),
    errno.EDQUOT: ("the disk quota is used up", f"Free some space, {_AGAIN}"),
    errno.EFBIG: ("files of this size are not allowed here", f"Raise the limit (ulimit -f), {_AGAIN}"),
    errno.EROFS: ("the file system is read-only", f"Make it writable, {_AGAIN}"),
    errno.EIO: ("the disk reported an error", f"Check it, {_AGAIN}"),
}
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ESTALE)
# Of one file, since something else has its name, or it belongs to somebody else.
_OTHERS = (errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ELOOP, errno.EACCES, errno.EPERM)


class DiskError(UserError):
    """Something could not be written, for a reason that lies with the disk."""


def disk_error(error: BaseException, directory: Path | None = None, *, needed: int | None = None) -> DiskError | None:
    """The error to show for an error of the system; None if it does not lie with the disk.

    Args:
        error: an ``OSError``, or the error of a library written in Rust, which has the system's number in its text.
        directory: what was being written to, if that is known, for errors that name no file; if it is gone, that is the
            error.
        needed: how many bytes were to be written, if that is known.
    """
    number = _number(error)
    file = getattr(error, "filename2", None) or getattr(error, "filename", None) or directory
    if number is None:
        return None
    if number in _OTHERS and directory and file and directory.exists() and directory in Path(os.fsdecode(file)).parents:
        return DiskError(
            f"{os.fsdecode(file)}: cannot be written or read: {os.strerror(number).lower()}. Move what is there away, "
            "or make it accessible, and run the same command again."
        )
    if number in _GONE:
        if directory is None or directory.exists():
            return None
        return DiskError(
            f"{directory}: the directory is gone, so nothing can be written to it. Restore it, or its file system, "
            "and run the same command again; without it, the run starts anew."
        )
    if number not in _REASONS:
        return None
    reason, remedy = _REASONS[number]
    if number == errno.EIO and isinstance(error, OSError) and error.strerror:
        reason += f" ({error.strerror})"
    if number in FULL:
        about = f"about {in_words(needed)} is needed, and " if needed else ""
        reason += f": {about}{in_words(free_bytes(Path(file)))} is free" if file else ""
    return DiskError(f"{file or 'a file'}: cannot be written: {reason}. {remedy}")


@contextmanager
def disk_errors(directory: Callable[[], Path | None]) -> Iterator[None]:
    """Inside, errors that lie with the disk become a :class:`DiskError`.

    Args:
        directory: returns what is written to, once it exists.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if found := disk_error(error, directory()):
            raise found from None
        raise


@contextmanager
def naming(file: Path) -> Iterator[None]:
    """Inside, the system's errors name a file: those of a write to an open file do not."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(file)) from None


def free_bytes(path: Path) -> int:
    """Free space of the file system that a path is on, or will be."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return shutil.disk_usage(path).free


def in_words(size: float) -> str:
    """A number of bytes, such as "1.5 GB"."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:,.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"


def _number(error: BaseException) -> int | None:
    if isinstance(error, OSError):
        return error.errno
    # safetensors and tokenizers: "I/O error: No space left on device (os error 28)".
    found = re.search(r"\(os error (\d+)\)", str(error))
    return int(found[1]) if found else None
