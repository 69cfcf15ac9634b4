"""Checks of data files before they are read: their errors name the file, the byte and the remedy."""

import hashlib
import os
import stat
from pathlib import Path

from textgen.data.formats.table import find_format, is_compressed
from textgen.data.formats.text_check import TextCheck
from textgen.errors import UserError

_CHUNK_BYTES = 1 << 20  # read at a time


def check_file(path: Path) -> str:
    """Check a data file, and return the SHA-256 of its content.

    Raises:
        UserError: the file is empty, unreadable, binary or not UTF-8 (with the byte offset), or has the extension
            .parquet and is not a Parquet file. Compressed text is checked when it is read.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise UserError(f"{path}: not a file but a pipe or a device, which cannot be read several times.")
        if status.st_size == 0:
            raise UserError(f"{path}: the file is empty.")
        with path.open("rb") as file:
            if path.suffix.lower() == ".parquet" and os.pread(file.fileno(), 4, 0) != b"PAR1":
                raise UserError(f"{path}: not a Parquet file: it does not start with PAR1. Check the file extension.")
            found = find_format(path)
            check = TextCheck(path) if found and found.is_text and not is_compressed(path) else None
            digest = hashlib.sha256()
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
                if check:
                    check.feed(chunk)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}.") from None
    if check:
        check.finish()
        if check.blank:
            raise UserError(f"{path}: the file contains only white space.")
    return digest.hexdigest()
