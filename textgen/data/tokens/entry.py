"""Entries of the cache: directories that are complete or absent.

An entry is written elsewhere, sealed with the size of each of its files, and moved to its place. One that has lost a
file, or a part of one, since then counts as absent.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from textgen.files import sync, write_json

_SEAL = "meta.json"


def seal(directory: Path, facts: dict[str, Any]) -> None:
    """Record the sizes of a directory's files, and some facts about them, when all of them have been written."""
    sizes = {path.name: path.stat().st_size for path in sorted(directory.iterdir()) if path.name != _SEAL}
    write_json(directory / _SEAL, {"files": sizes, **facts})


def facts_of(entry: Path) -> dict[str, Any] | None:
    """The facts that an entry was sealed with; None if it is absent, or not all there."""
    try:
        meta = json.loads((entry / _SEAL).read_bytes())
        files = meta.pop("files")
        complete = all((entry / name).stat().st_size == size for name, size in files.items())
    except (OSError, ValueError, AttributeError, KeyError):
        return None
    return dict(meta) if complete and files else None


def publish(directory: Path, entry: Path) -> None:
    """Move a sealed directory to its place in the cache, unless a complete entry is there already.

    The caller holds the entry's lock.
    """
    if facts_of(entry) is None:
        shutil.rmtree(entry, ignore_errors=True)  # damaged
        entry.parent.mkdir(parents=True, exist_ok=True)
        directory.rename(entry)
        sync(entry.parent)


def map_array(path: Path, dtype: str | type) -> np.ndarray:
    """The numbers in a file, memory-mapped: only what is used is read, and processes share it."""
    if not path.stat().st_size:
        return np.empty(0, dtype)
    return np.memmap(path, dtype, mode="r")
