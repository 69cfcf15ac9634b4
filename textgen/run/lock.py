"""One process at a time writes to a run directory.

The lock is one of the operating system, on a hidden file in the directory: it ends with the process that holds it,
however that ends. Of a job with several processes, the main one holds it for all.
"""

import os
from pathlib import Path

_held: dict[str, object] = {}  # directory → lock; a process keeps its locks until it ends
_SECONDS = 0.5  # to wait for a process that only looks

LOCK_FILE = ".lock"


def take_lock(directory: Path) -> bool:
    """Take the lock of an existing directory for this process; False if another process holds it.

    Where the file system has no locks, nothing is locked.
    """
    return _take(directory, seconds=_SECONDS, keep=True)


def is_locked(directory: Path) -> bool:
    """Whether another process holds the lock of a directory; nothing is written."""
    lockable = (directory / LOCK_FILE).exists() and os.access(directory / LOCK_FILE, os.W_OK)
    return lockable and not _take(directory, seconds=0, keep=False)


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
    except (OSError, NotImplementedError):
        return True
    if keep:
        _held[name] = lock
    else:
        lock.release()
    return True
