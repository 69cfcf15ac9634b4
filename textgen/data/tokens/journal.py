"""Files that grow together, and of which nothing that was committed is lost when the process is killed."""

import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from textgen.errors import UserError
from textgen.files import read_json, write_json

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
        sizes, self.position = self._last_commit(paths)
        self._files: dict[str, BinaryIO] = {}
        for name, path in paths.items():
            path.parent.mkdir(exist_ok=True)
            self._files[name] = path.open("ab")
            self._files[name].truncate(sizes[name])  # what a killed process wrote after its last commit
            self._files[name].seek(0, os.SEEK_END)

    def append(self, name: str, data: bytes | memoryview) -> None:
        """Write to the end of a file."""
        self._files[name].write(data)

    def commit(self, position: dict[str, Any]) -> None:
        """Make sure that everything written so far survives, even a power failure.

        Args:
            position: JSON object that says where to continue.
        """
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
        sizes = {name: file.tell() for name, file in self._files.items()}
        write_json(self._committed, {"sizes": sizes, "position": position})

    def _last_commit(self, paths: dict[str, Path]) -> tuple[dict[str, int], dict[str, Any]]:
        """Sizes of the files and the position; zeros and an empty position if there is no commit to resume from."""
        try:
            found = read_json(self._committed)
            sizes = {name: int(found["sizes"][name]) for name in paths}
            if all(path.stat().st_size >= sizes[name] for name, path in paths.items()):
                return sizes, dict(found["position"])
        except (OSError, UserError, KeyError, TypeError, ValueError):
            pass
        return dict.fromkeys(paths, 0), {}

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for file in self._files.values():
            file.close()
