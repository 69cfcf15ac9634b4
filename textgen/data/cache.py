"""Where tokenized data, and what is known about data files, is kept between runs."""

import os
from pathlib import Path

from textgen.errors import UserError


def cache_directory(kind: str = "tokens") -> Path:
    """``$TEXTGEN_CACHE``, or ``textgen`` in the user's cache directory; in it, the directory for one kind of data."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "textgen"
    return Path(os.environ.get("TEXTGEN_CACHE") or default).expanduser() / kind


def create_cache(kind: str = "tokens") -> Path:
    """The directory for one kind of data, which is created if needed.

    Raises:
        UserError: it cannot be written.
    """
    path = cache_directory(kind)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"$TEXTGEN_CACHE {path}: cannot be written: {error.strerror}. Set TEXTGEN_CACHE to a directory that you "
            "can write to."
        ) from None
    return path
