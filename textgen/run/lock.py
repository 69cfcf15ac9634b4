"""One process at a time writes to a run directory.

The lock is one of the operating system, on a hidden file in the directory: it ends with the process that holds it,
however that ends. Of a job with several processes, the main one holds it for all. The file also says who holds it. On a
file system without locks, such as Lustre mounted without them, that is all there is: a process that lives on the same
machine is respected, and one on another machine cannot be, which is printed.
"""

import errno
import json
import os
import socket
import sys
from pathlib import Path

from textgen.errors import UserError

_held: dict[str, object] = {}  # directory → lock; a process keeps its locks until it ends
_SECONDS = 0.5  # to wait for a process that only looks
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}

LOCK_FILE = ".lock"


def take_lock(directory: Path) -> bool:
    """Take the lock of an existing directory for this process; False if another process holds it.

    Raises:
        UserError: the lock's file cannot be opened.
    """
    path = directory / LOCK_FILE
    if not _take(directory, seconds=_SECONDS, keep=True):
        return False
    with path.open("w", encoding="utf-8") as file:  # not replaced by a new file, which would not be locked
        json.dump({"host": socket.gethostname(), "process_id": os.getpid()}, file)
    return True


def is_locked(directory: Path) -> bool:
    """Whether another process holds the lock of a directory; nothing is written.

    Raises:
        UserError: the lock's file cannot be opened.
    """
    lockable = (directory / LOCK_FILE).exists() and os.access(directory / LOCK_FILE, os.W_OK)
    return lockable and not _take(directory, seconds=0, keep=False)


def lock_holder(directory: Path) -> tuple[str, int] | None:
    """Host and process id of the process that took the lock of a directory last, if the lock's file says it."""
    try:
        written = json.loads((directory / LOCK_FILE).read_text(encoding="utf-8"))
        return str(written["host"]), int(written["process_id"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _take(directory: Path, *, seconds: float, keep: bool) -> bool:
    from filelock import FileLock, Timeout

    name = os.path.realpath(directory)
    if name in _held:
        return True
    lock = FileLock(directory / LOCK_FILE, thread_local=False)
    try:
        lock.acquire(timeout=seconds)
    except Timeout:
        return False
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
            raise UserError(
                f"{directory / LOCK_FILE}: cannot be locked: {error.strerror}. Make it writable, or choose another "
                "directory."
            ) from None
        return _take_without_locks(directory, name, keep=keep)
    if keep:
        _held[name] = lock
    else:
        lock.release()
    return True


def _take_without_locks(directory: Path, name: str, *, keep: bool) -> bool:
    """On a file system without locks: False if the last holder still lives on this machine."""
    host, process_id = lock_holder(directory) or ("", 0)
    if host == socket.gethostname() and process_id != os.getpid() and _lives(process_id):
        return False
    if keep:
        _held[name] = None
        print(
            f"warning: {directory}: this file system has no locks. Make sure that no other machine runs the same "
            "command.",
            file=sys.stderr,
        )
    return True


def _lives(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except OSError:  # of another user
        return True
    return True
