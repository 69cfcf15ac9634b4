"""Entries of the cache: directories that are complete or absent.

An entry is written elsewhere, sealed with the size of each of its files, and moved to its place. One whose files are
not what was written counts as absent, and is built again. Files up to 64 MiB are checked whenever an entry is opened,
and read into memory. A larger file of tokens or texts is checked where it is read (:class:`CheckedArray`): opening it
takes no time, and the check reads little more of it than the run does. So nothing that happens to a file during a run
changes what the run reads. (The exception is an index of more than eight million documents, which is memory-mapped.)
"""

import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from textgen.checksums import read_sealed, write_sealed
from textgen.data.tokens.chunk_sums import CHUNK, SUFFIX, chunks_in, first_damage, read_sums
from textgen.errors import UserError
from textgen.files import remove, sync

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
        remove(entry)  # damaged
        entry.parent.mkdir(parents=True, exist_ok=True)
        directory.rename(entry)
        sync(entry.parent)


def open_array(path: Path, dtype: str | type) -> Any:
    """The numbers in a file of an intact entry: an array in memory, or for a large one what reads and checks slices.

    Raises:
        UserError: the file was damaged since the entry was found intact.
    """
    try:
        if _is_lazy(path):
            return CheckedArray(path, dtype)
        if path.stat().st_size > CHECKED_AT_ONCE:
            return np.memmap(path, dtype, mode="r")
        data, sums = np.fromfile(path, np.uint8), read_sums(path)
    except OSError:
        raise _damage(path, 0) from None
    damaged = first_damage(data, sums, range(len(sums))) if len(sums) == chunks_in(len(data)) else 0
    if damaged is not None:
        raise _damage(path, damaged)
    return data.view(dtype)


class CheckedArray:
    """Numbers in a file, of which every chunk is checked whenever a slice reads it.

    It has a length, and is indexed by slices and numbers. The file is read, not memory-mapped: of a mapped one that is
    cut, the system would kill the process.

    Args:
        path: a file of an entry, with its checksums beside it.
        dtype: the type of its numbers.
    """

    def __init__(self, path: Path, dtype: str | type) -> None:
        self._path, self._type = path, np.dtype(dtype)
        self._file = path.open("rb", buffering=0)
        self._length = path.stat().st_size // self._type.itemsize
        self._sums = read_sums(path)
        self._last: tuple[range, bytes] = (range(0), b"")  # the chunks that were read last

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int | slice) -> Any:
        if not isinstance(index, slice):
            place = range(len(self))[index]
            return self[place : place + 1][0]
        begin, end, step = index.indices(len(self))
        assert step == 1, "a slice of neighbors"
        if end <= begin:
            return np.empty(0, self._type)
        first, last = begin * self._type.itemsize, end * self._type.itemsize
        chunks = range(first // CHUNK, chunks_in(last))
        data, start = self._read(chunks), first - chunks.start * CHUNK
        return np.frombuffer(data, self._type, end - begin, start)

    def _read(self, chunks: range) -> bytes:
        known, data = self._last
        if chunks != known:
            data = os.pread(self._file.fileno(), len(chunks) * CHUNK, chunks.start * CHUNK)
            size = min(chunks.stop * CHUNK, self._length * self._type.itemsize) - chunks.start * CHUNK
            own = self._sums[chunks.start : chunks.stop]
            damaged = first_damage(np.frombuffer(data, np.uint8), own, range(len(chunks))) if len(data) >= size else 0
            if damaged is not None:
                raise _damage(self._path, chunks.start + damaged)
            self._last = chunks, data
        return data


def _damage(path: Path, chunk: int) -> UserError:
    (path.parent / _SEAL).unlink(missing_ok=True)  # so that the next start builds the entry again
    return UserError(
        f"{path}: this file of the cache is damaged near byte {chunk * CHUNK:,}. Run the same command again: it reads "
        "the data anew."
    )


def save_derived(path: Path, numbers: np.ndarray) -> None:
    """Write int64 numbers that were computed from an entry into a file of their own, with a checksum at the end."""
    temporary = path.with_suffix(".tmp")
    np.append(numbers, zlib.crc32(numbers.data)).astype(np.int64).tofile(temporary)
    if not path.is_file():
        remove(path)
    temporary.replace(path)


def read_derived(path: Path) -> np.ndarray | None:
    """The numbers of :func:`save_derived`; None if they are absent or damaged."""
    try:
        found = np.fromfile(path, np.int64) if path.stat().st_size % 8 == 0 else np.empty(0, np.int64)
    except OSError:
        return None
    return found[:-1] if len(found) and zlib.crc32(found[:-1].data) == found[-1] else None


def _is_lazy(path: Path) -> bool:
    return path.name in _LAZY and path.stat().st_size > CHECKED_AT_ONCE


def _is_whole(path: Path) -> bool:
    try:
        data, sums = np.fromfile(path, np.uint8), read_sums(path)
    except OSError:
        return False
    return len(sums) == chunks_in(len(data)) and first_damage(data, sums, range(len(sums))) is None
