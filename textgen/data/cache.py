"""Where tokenized and downloaded data, and what is known about data files, is kept between runs."""

import os
from pathlib import Path

from textgen.errors import UserError
from textgen.run.writable import check_writable

_REMEDY = "Set TEXTGEN_CACHE to a directory that you can write to."


def cache_directory(kind: str = "tokens") -> Path:
    """``$TEXTGEN_CACHE``, or ``textgen`` in the user's cache directory; in it, the directory for one kind of data.

    Raises:
        UserError: neither is set, and there is no home directory.
    """
    default = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "textgen"
    try:
        return Path(os.environ.get("TEXTGEN_CACHE") or default).expanduser() / kind
    except RuntimeError:
        raise UserError(f"$TEXTGEN_CACHE: it is not set, and there is no home directory. {_REMEDY}") from None


def check_cache() -> None:
    """Check that the cache is writable, or can be created; nothing is touched.

    Raises:
        UserError: it is not.
    """
    try:
        check_writable(cache_directory(), setting="$TEXTGEN_CACHE")
    except UserError as error:
        message = str(error)
        raise UserError(message if _REMEDY in message else f"{message} {_REMEDY}") from None


def create_cache(kind: str = "tokens") -> Path:
    """The directory for one kind of data, which is created if needed.

    Raises:
        UserError: it cannot be written.
    """
    check_cache()
    path = cache_directory(kind)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"$TEXTGEN_CACHE {path}: cannot be written: {error.strerror}. {_REMEDY}") from None
    return path
