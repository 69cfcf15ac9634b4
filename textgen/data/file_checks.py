"""Checks of data files before they are read.

The errors of `datasets` about empty, binary and non-UTF-8 files are hard to understand; these name the file and the
byte.
"""

import codecs
import hashlib
from pathlib import Path

from textgen.errors import UserError

_CHUNK_BYTES = 1 << 20  # read at a time


def check_file(path: Path) -> str:
    """Check a data file, and return the SHA-256 of its content.

    Raises:
        UserError: the file is empty, unreadable, binary or not UTF-8 (with the byte offset), or has the extension
            .parquet and is not a Parquet file.
    """
    try:
        if path.stat().st_size == 0:
            raise UserError(f"{path}: the file is empty.")
        if path.suffix.lower() == ".parquet":
            return _check_parquet(path)
        return _check_text(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}.") from None


def _check_text(path: Path) -> str:
    digest, decoder, offset, blank = hashlib.sha256(), codecs.getincrementaldecoder("utf-8")(), 0, True
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            if (nul := chunk.find(b"\0")) >= 0:
                raise UserError(f"{path}: byte {offset + nul} is NUL, so this is a binary file, not text.")
            carried = len(decoder.getstate()[0])  # bytes of a character that began in the previous chunk
            _decode(decoder, chunk, path, offset - carried, final=False)
            blank = blank and not chunk.strip()
            offset += len(chunk)
    _decode(decoder, b"", path, offset - len(decoder.getstate()[0]), final=True)
    if blank:
        raise UserError(f"{path}: the file contains only white space.")
    return digest.hexdigest()


def _decode(decoder: codecs.IncrementalDecoder, chunk: bytes, path: Path, start: int, *, final: bool) -> None:
    try:
        decoder.decode(chunk, final)
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: not UTF-8 at byte {start + error.start} (0x{error.object[error.start]:02x}). "
            f"Convert it, for example: iconv -f LATIN1 -t UTF-8 {path.name} > converted{path.suffix}"
        ) from None


def _check_parquet(path: Path) -> str:
    with path.open("rb") as file:
        if file.read(4) != b"PAR1":
            raise UserError(f"{path}: not a Parquet file: it does not start with PAR1. Check the file extension.")
        file.seek(0)
        return hashlib.file_digest(file, "sha256").hexdigest()
