"""Checking data files before they are read: `datasets` reports empty, binary and non-UTF-8 files opaquely; here the
message names the file and the byte."""

import codecs
import hashlib
from pathlib import Path

from textgen.errors import UserError

_CHUNK = 1 << 20


def check_file(path: Path) -> str:
    """SHA-256 of a data file's content.

    Raises:
        UserError: the file is empty, unreadable, binary or not UTF-8 (with the byte offset), or not the Parquet file
            that its name says.
    """
    try:
        size = path.stat().st_size
        if size == 0:
            raise UserError(f"{path}: the file is empty.")
        if path.suffix.lower() == ".parquet":
            return _check_parquet(path)
        return _check_text(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}.") from None


def _check_text(path: Path) -> str:
    digest, decoder, offset, blank = hashlib.sha256(), codecs.getincrementaldecoder("utf-8")(), 0, True
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            if (nul := chunk.find(b"\0")) >= 0:
                raise UserError(f"{path}: byte {offset + nul} is NUL, so this is a binary file, not text.")
            carried = len(decoder.getstate()[0])
            _decode(decoder, chunk, path, offset - carried, final=False)
            blank = blank and not chunk.strip()
            offset += len(chunk)
    _decode(decoder, b"", path, offset - len(decoder.getstate()[0]), final=True)
    if blank:
        raise UserError(f"{path}: the file is empty but for white space.")
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
            raise UserError(f"{path}: byte 0 does not start a Parquet file; is the ending right?")
        file.seek(0)
        return hashlib.file_digest(file, "sha256").hexdigest()
