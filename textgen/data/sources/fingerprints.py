"""SHA-256 of data files, remembered: a file that is known is recognized from a few kilobytes.

A hash is remembered in the cache under the file's path, with what can be seen of the file at once: its size, when it
was modified, and a sample of its content. While all of these are the same, so is the content. If several processes need
the hash of a new file, one of them reads the file, and the others wait.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from textgen.checksums import read_sealed, with_seal
from textgen.data.cache import cache_directory
from textgen.errors import UserError

_PIECES, _PIECE_BYTES = 5, 4096  # of the sample: beginning, end, and between
_SETTLED_NS = 2_000_000_000  # coarsest time stamps of a file system (FAT): within it, two changes can look the same
_STARTED_NS = time.time_ns()


def content_sha256(path: Path, read: Callable[[Path], str], *, verify: bool = False) -> str:
    """SHA-256 of a file's content, from memory if the file is known.

    Args:
        path: the file.
        read: reads the whole file, checks it, and returns its SHA-256; called only if the file is not known.
        verify: take no hash from memory that is older than this process.

    Raises:
        UserError: the file changed while it was read, or whatever ``read`` raises.
    """
    if not path.is_file():
        return read(path)  # which names what it is: opening a pipe, for example, would wait for a writer
    record = _record(path)
    since = _STARTED_NS if verify else 0
    if (known := _recall(record, path, since)) is not None:
        return known
    with _locked(record):
        if (known := _recall(record, path, since)) is not None:  # another process has read the file meanwhile
            return known
        return _read(record, path, read)


def check_unchanged(path: Path, sha256: str, read: Callable[[Path], str]) -> None:
    """Check that a file still has the content that was hashed.

    Arguments as for :func:`content_sha256`.

    Raises:
        UserError: it has not.
    """
    try:
        same = content_sha256(path, read) == sha256
    except (UserError, OSError):  # deleted, say, or shortened within a character
        same = False
    if not same:
        raise _changed(path)


def _changed(path: Path) -> UserError:
    return UserError(f"{path}: the file changed while it was read. Run the same command again when it is complete.")


def _read(record: Path, path: Path, read: Callable[[Path], str]) -> str:
    started = time.time_ns()
    before = _appearance(path)
    sha256 = read(path)
    if before is None or _appearance(path) != before:
        raise _changed(path)
    # A file that was modified a moment ago could change again without a visible difference.
    if max(before["modified_ns"], before["changed_ns"]) < started - _SETTLED_NS:
        _remember(record, {"path": str(path), "content_sha256": sha256, "read_ns": started, **before})
    return sha256


def _appearance(path: Path) -> dict[str, Any] | None:
    """What can be seen of a file without reading all of it; None if it cannot be opened."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            sample = hashlib.sha256()
            for i in range(_PIECES):
                file.seek(i * max(0, status.st_size - _PIECE_BYTES) // (_PIECES - 1))
                sample.update(file.read(_PIECE_BYTES))
    except OSError:
        return None
    # Restoring an old modification time, as some copying tools do, still changes the time of the last status change.
    times = {"modified_ns": status.st_mtime_ns, "changed_ns": status.st_ctime_ns}
    return {"size": status.st_size, **times, "sample": sample.hexdigest()}


def _record(path: Path) -> Path:
    name = hashlib.sha256(os.fsencode(os.path.abspath(path))).hexdigest()
    return cache_directory("files") / name[:3] / f"{name[3:35]}.json"


def _recall(record: Path, path: Path, since: int) -> str | None:
    """The remembered hash, if the file looks as it did and was read at ``since`` (in ns) or later."""
    known = read_sealed(record)
    if known is None:
        return None
    try:
        seen = {name: known[name] for name in ("size", "modified_ns", "changed_ns", "sample")}
        sha256, read_ns = str(known["content_sha256"]), int(known["read_ns"])
    except (ValueError, KeyError, TypeError):
        return None
    return sha256 if read_ns >= since and _appearance(path) == seen else None


def _remember(record: Path, known: dict[str, Any]) -> None:
    # Not synced to disk: the worst that a torn file costs is reading the data once more.
    temporary = record.with_suffix(f".{os.getpid()}")
    with suppress(OSError):
        temporary.write_text(json.dumps(with_seal(known)), encoding="utf-8")
        temporary.replace(record)


@contextmanager
def _locked(record: Path) -> Iterator[None]:
    """Let one process at a time read the files of a directory of records; without a writable cache, all of them."""
    from filelock import FileLock

    try:
        record.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(record.parent.with_suffix(".lock"))
        lock.acquire()
    except OSError:
        yield
        return
    try:
        yield
    finally:
        lock.release()
