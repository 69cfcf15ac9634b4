"""Entries of the cache: directories that are complete or absent.

An entry is written elsewhere, sealed with the size of each of its files, and moved to its place. One whose files are
not what was written counts as absent, and is built again. Files up to 64 MiB are checked whenever an entry is opened. A
larger file of tokens or texts is checked where it is read (:class:`CheckedArray`): opening it takes no time, and the
check reads little more of it than the run does.
"""

import shutil
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from textgen.checksums import read_sealed, write_sealed
from textgen.data.tokens.chunk_sums import CHUNK, SUFFIX, chunks_in, first_damage, read_sums
from textgen.errors import UserError
from textgen.files import sync

_SEAL = "meta.json"
CHECKED_AT_ONCE = 1 << 26  # bytes of a file that are checked when its entry is opened: hundredths of a second
_LAZY = ("tokens.bin", "documents.jsonl")  # files that are read in slices


def seal(directory: Path, facts: dict[str, Any]) -> None:
    """Record the sizes of a directory's files, and some facts about them, when all of them have been written."""
    sizes = {path.name: path.stat().st_size for path in sorted(directory.iterdir()) if path.name != _SEAL}
    write_sealed(directory / _SEAL, {"files": sizes, **facts})


def facts_of(entry: Path) -> dict[str, Any] | None:
    """The facts that an entry was sealed with; None if it is absent, or not all there. No file is read."""
    meta = read_sealed(entry / _SEAL)
    if not meta or not meta["files"]:
        return None
    files = meta.pop("files")
    try:
        return meta if all((entry / name).stat().st_size == size for name, size in files.items()) else None
    except OSError:
        return None


def is_intact(entry: Path) -> bool:
    """Whether an entry is complete, and its files are what was written, as far as they are checked when opened."""
    if facts_of(entry) is None:
        return False
    checked = (path.with_name(path.name.removesuffix(SUFFIX)) for path in sorted(entry.glob(f"*{SUFFIX}")))
    return all(_is_lazy(path) or _is_whole(path) for path in checked)


def publish(directory: Path, entry: Path) -> None:
    """Move a sealed directory to its place in the cache, unless an intact entry is there already.

    The caller holds the entry's lock.
    """
    if not is_intact(entry):
        shutil.rmtree(entry, ignore_errors=True)  # damaged
        entry.parent.mkdir(parents=True, exist_ok=True)
        directory.rename(entry)
        sync(entry.parent)


def map_array(path: Path, dtype: str | type) -> np.ndarray:
    """The numbers in a file, memory-mapped: only what is used is read, and processes share it."""
    if not path.stat().st_size:
        return np.empty(0, dtype)
    return np.memmap(path, dtype, mode="r")


def open_array(path: Path, dtype: str | type) -> Any:
    """As :func:`map_array`, for a file of an intact entry; a large one is checked where slices of it are read."""
    return CheckedArray(path, dtype) if _is_lazy(path) else map_array(path, dtype)


class CheckedArray:
    """Numbers in a file, memory-mapped, of which every chunk is checked when a slice first reads it.

    It has a length, and is indexed by slices and numbers.

    Args:
        path: a file of an entry, with its checksums beside it.
        dtype: the type of its numbers.
    """

    def __init__(self, path: Path, dtype: str | type) -> None:
        self._path = path
        self._numbers, self._bytes = map_array(path, dtype), map_array(path, np.uint8)
        self._sums = read_sums(path)
        self._is_known = np.zeros(len(self._sums), bool)

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            begin, end, _ = index.indices(len(self))
        else:
            begin = range(len(self))[index]
            end = begin + 1
        if end > begin:
            self._check(begin * self._numbers.itemsize, end * self._numbers.itemsize)
        return self._numbers[index]

    def _check(self, begin: int, end: int) -> None:
        chunks = range(begin // CHUNK, chunks_in(end))
        if self._is_known[chunks.start : chunks.stop].all():
            return
        damaged = first_damage(self._bytes, self._sums, chunks)
        if damaged is not None:
            (self._path.parent / _SEAL).unlink(missing_ok=True)  # so that the next start builds the entry again
            raise UserError(
                f"{self._path}: this file of the cache is damaged near byte {damaged * CHUNK:,}. Run the same command "
                "again: it tokenizes the data anew."
            )
        self._is_known[chunks.start : chunks.stop] = True


def save_derived(path: Path, numbers: np.ndarray) -> None:
    """Write int64 numbers that were computed from an entry into a file of their own, with a checksum at the end."""
    temporary = path.with_suffix(".tmp")
    np.append(numbers, zlib.crc32(numbers.data)).astype(np.int64).tofile(temporary)
    temporary.replace(path)


def map_derived(path: Path) -> np.ndarray | None:
    """The numbers of :func:`save_derived`, memory-mapped; None if they are absent or damaged."""
    try:
        found = map_array(path, np.int64)
    except (OSError, ValueError):  # not a whole number of them
        return None
    return found[:-1] if len(found) and zlib.crc32(found[:-1].data) == found[-1] else None


def _is_lazy(path: Path) -> bool:
    return path.name in _LAZY and path.stat().st_size > CHECKED_AT_ONCE


def _is_whole(path: Path) -> bool:
    try:
        data, sums = map_array(path, np.uint8), read_sums(path)
    except (OSError, ValueError):
        return False
    return len(sums) == chunks_in(len(data)) and first_damage(data, sums, range(len(sums))) is None
