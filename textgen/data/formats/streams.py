"""Opening text files: decompressed, and checked while they are read."""

import gzip
import io
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from textgen.data.formats.file_to_read import FileToRead
from textgen.data.formats.text_check import TextCheck
from textgen.errors import first_line

_CHUNK_BYTES = 1 << 18  # read at a time


def _open_plain(path: Path) -> Any:
    return path.open("rb", buffering=0)


def _open_zstandard(path: Path) -> Any:
    import pyarrow  # takes a third of a second to import

    return pyarrow.CompressedInputStream(pyarrow.OSFile(str(path)), "zstd")


# Last part of a file's name → how to open it decompressed.
COMPRESSIONS: dict[str, Callable[[Path], Any]] = {".gz": gzip.open, ".zst": _open_zstandard}


def open_bytes(file: FileToRead) -> BinaryIO:
    """The UTF-8 bytes of a text file, decompressed.

    Reading raises UserError where the file is not UTF-8 text, or the compressed data is damaged; bytes are counted in
    the decompressed text.

    Raises:
        UserError: the file cannot be opened.
    """
    opener = COMPRESSIONS.get(file.path.suffix.lower(), _open_plain)
    try:
        source = opener(file.path)
    except OSError as error:
        raise file.error(f"cannot be read: {error.strerror or first_line(error)}.") from None
    return io.BufferedReader(_Checked(source, file), _CHUNK_BYTES)


def open_text(file: FileToRead, *, newline: str | None = None) -> io.TextIOWrapper:
    """The text of a file without a byte order mark, as :func:`open_bytes`.

    Args:
        file: what to open.
        newline: as in :func:`open`; by default every kind of line end becomes a newline character.
    """
    return io.TextIOWrapper(open_bytes(file), encoding="utf-8-sig", newline=newline)


class _Checked(io.RawIOBase):
    """Passes bytes through; raises an error at the first that are damaged or not text."""

    def __init__(self, source: Any, file: FileToRead) -> None:
        self._source, self._file = source, file
        self._check = TextCheck(file.path, f"{file.setting} {file.path}")
        self._read = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._source.read(len(buffer))
        except (OSError, EOFError, zlib.error) as error:  # pyarrow's errors of zstd are OSErrors
            raise self._file.error(f"damaged after {self._read:,} bytes of text: {first_line(error)}.") from None
        if data:
            self._check.feed(data)
        else:
            self._check.finish()
        self._read += len(data)
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._source.close()
        super().close()
