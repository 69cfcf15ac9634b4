"""Whether a directory can be written, without writing to it."""

import os
from pathlib import Path

from textgen.errors import UserError


def check_writable(path: Path, *, setting: str) -> None:
    """Check that a directory is writable, or can be created; nothing is touched.

    Args:
        path: the directory.
        setting: the flag that named it, for error messages.

    Raises:
        UserError: it is not.
    """
    try:
        if path.exists() and not path.is_dir():
            raise UserError(f"{setting} {path}: cannot be written: this is a file. Name a directory.")
    except OSError as error:  # such as a name that is too long
        raise UserError(f"{setting} {path}: cannot be written: {error.strerror}.") from None
    existing = path
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK) or _is_virtual(existing):
        raise UserError(f"{setting} {path}: cannot be written ({existing} is not a writable directory).")


def _is_virtual(path: Path) -> bool:
    # The superuser passes every permission check, also in /proc and /sys, where nothing can be created.
    return path.resolve().parts[:2] in (("/", "proc"), ("/", "sys"))
