"""The places that runs write to: can they be written and locked, and is there space?"""

import os
from pathlib import Path

from textgen.commands.checkup.finding import Finding
from textgen.data.cache import cache_directory
from textgen.disk import free_bytes, in_words
from textgen.errors import UserError
from textgen.run.writable import check_writable

_LITTLE = 5e9  # bytes: three checkpoints of GPT-2 124M


def check_places() -> list[Finding]:
    """The cache, the hub's cache, and the directory for runs."""
    hub = Path(os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface"))
    places = [("runs", Path("runs"), "--run-dir"), ("hub's cache", hub.expanduser(), "$HF_HOME")]
    try:
        places.insert(1, ("cache", cache_directory(), "$TEXTGEN_CACHE"))
    except UserError as error:
        return [Finding("fault", "cache: there is no place for it", str(error)), *_check(places)]
    return _check(places)


def _check(places: list[tuple[str, Path, str]]) -> list[Finding]:
    return [check_place(*place) for place in places]


def check_place(name: str, path: Path, setting: str) -> Finding:
    """Whether a directory can be written and locked, and has space.

    Args:
        name: what it is for.
        path: the directory, which need not exist yet.
        setting: the flag or variable that chooses another one.
    """
    try:
        check_writable(path, setting=setting)
    except UserError as error:
        return Finding("fault", f"{name}: {error}", f"Set {setting} to a directory that you can write to.")
    free = free_bytes(path)
    text = f"{name}: {path.absolute()}, {in_words(free)} free"
    if problem := lock_problem(path):
        mend = f"Start no second run in the same directory, or choose another file system ({setting})."
        return Finding("note", f"{text}; it has no file locks: {problem}", mend)
    if free < _LITTLE:
        return Finding("note", text, f"Free some space, or set {setting}. --dry-run says what a run needs.")
    return Finding("ok", text)


def lock_problem(path: Path) -> str:
    """Why the file system of a path cannot lock files; empty if it can. The path itself is not touched."""
    import tempfile

    from filelock import FileLock

    while not path.is_dir():
        path = path.parent
    try:
        with tempfile.TemporaryDirectory(prefix=".textgen-doctor-", dir=path) as scratch:
            FileLock(Path(scratch) / "lock").acquire(timeout=1).lock.release()
            return ""
    except (OSError, NotImplementedError) as error:
        return str(error)
