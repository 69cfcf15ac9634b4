"""Files that grow together, and of which nothing that was committed is lost when the process is killed.

Beside each file are the checksums of its chunks (``chunk_sums.py``).
"""

import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from textgen.checksums import read_sealed, write_sealed
from textgen.data.tokens.chunk_sums import CHUNK, SUFFIX, SUM_BYTES, ChunkSums

_COMMITTED = "committed.json"


class Journal:
    """Files of a directory, opened for appending; opened again, they are as they were at the last commit.

    Args:
        directory: where the files are; it is created if needed.
        names: the files, as paths below the directory.

    Attributes:
        position: what the last commit was given: where to continue; empty if there was none.
    """

    def __init__(self, directory: Path, names: Iterable[str]) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._committed = directory / _COMMITTED
        paths = {name: directory / name for name in names}
        sizes, partial, self.position = self._last_commit(paths)
        self._names = list(paths)
        self._sums = {name: ChunkSums(sizes[name], partial[name]) for name in paths}
        self._files: dict[str, BinaryIO] = {}
        for name, path in paths.items():
            path.parent.mkdir(exist_ok=True)
            self._open(name, path, sizes[name])
            self._open(name + SUFFIX, path.with_name(path.name + SUFFIX), _sums_size(sizes[name]))

    def _open(self, name: str, path: Path, size: int) -> None:
        self._files[name] = path.open("ab")
        self._files[name].truncate(size)  # what a killed process wrote after its last commit
        self._files[name].seek(0, os.SEEK_END)

    def append(self, name: str, data: bytes | memoryview) -> None:
        """Write to the end of a file."""
        self._files[name].write(data)
        self._files[name + SUFFIX].write(self._sums[name].append(data))

    def finish(self) -> None:
        """Write the checksums of incomplete last chunks, after the last commit."""
        for name in self._names:
            self._files[name + SUFFIX].write(self._sums[name].rest())
            self._files[name + SUFFIX].flush()
            os.fsync(self._files[name + SUFFIX].fileno())

    def commit(self, position: dict[str, Any]) -> None:
        """Make sure that everything written so far survives, even a power failure.

        Args:
            position: JSON object that says where to continue.
        """
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
        sizes = {name: self._files[name].tell() for name in self._names}
        partial = {name: self._sums[name].partial for name in self._names}
        write_sealed(self._committed, {"sizes": sizes, "partial": partial, "position": position})

    def _last_commit(self, paths: dict[str, Path]) -> tuple[dict[str, int], dict[str, int], dict[str, Any]]:
        """Sizes of the files, checksums of their last chunks and the position; zeros if there is nothing to resume."""
        found = read_sealed(self._committed)
        try:
            if found and all(_holds(path, found["sizes"][name]) for name, path in paths.items()):
                return found["sizes"], found["partial"], found["position"]
        except (OSError, KeyError):
            pass
        return dict.fromkeys(paths, 0), dict.fromkeys(paths, 0), {}

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for file in self._files.values():
            file.close()


def _holds(path: Path, size: int) -> bool:
    """Whether a file and its checksums are at least as long as they were at a commit."""
    sums = path.with_name(path.name + SUFFIX)
    return path.stat().st_size >= size and sums.stat().st_size >= _sums_size(size)


def _sums_size(size: int) -> int:
    return size // CHUNK * SUM_BYTES
