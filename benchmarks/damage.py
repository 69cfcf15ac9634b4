"""Damage to the files of a run and of a cache entry, and what became of it: for tests, and for counts at scale.

from damage import DAMAGES, damage, files_of, outcome
"""

import re
from collections.abc import Mapping
from pathlib import Path

# What varies between two runs of the same settings, or is only a cache: no outcome depends on these bytes.
VARIES = ("status.json", "timing.jsonl", "environment.json", "report.html", "README.md", ".lock")
VARIES += ("manifest.json", "checksums.json")  # hashes of those, among others
SPEED = rb'"tokens_per_second": [^,\n]+'  # in decoding.json
DAMAGES = ("deleted", "emptied", "cut", "array", "string", "number", "flipped", "digit")
_OTHER_TYPES = {"array": b"[]\n", "string": b'"x"\n', "number": b"3\n"}


def files_of(directory: Path) -> list[str]:
    """Every file of a run or a cache entry that can be damaged, as a path below it; not those of checkpoints."""
    paths = (path.relative_to(directory).as_posix() for path in sorted(directory.rglob("*")) if path.is_file())
    derived = ("report.html", "README.md")
    return [
        path for path in paths
        if not path.startswith("checkpoints/") and Path(path).name not in derived and not path.endswith(".lock")
    ]  # fmt: skip


def damage(path: Path, kind: str) -> bool:
    """Damage a file in one of the ways of :data:`DAMAGES`; returns whether that changed it."""
    data = path.read_bytes()
    if kind == "deleted":
        path.unlink()
        return True
    damaged = damaged_bytes(data, kind)
    path.write_bytes(damaged)
    return damaged != data


def damaged_bytes(data: bytes, kind: str) -> bytes:
    """The contents of a file after some damage; the same if there is nothing to damage, such as no digit."""
    middle = len(data) // 2
    if kind == "emptied":
        return b""
    if kind == "cut":
        return data[:middle]
    if kind in _OTHER_TYPES:
        return _OTHER_TYPES[kind]
    if kind == "digit":
        digits = [i for i in range(len(data)) if data[i : i + 1].isdigit()]
        if not digits:
            return data
        middle = min(digits, key=lambda i: abs(i - middle))
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :] if data else data


def contents(run_dir: Path) -> dict[str, bytes]:
    """What a run must end with whatever happened to it: path → bytes, without what varies between equal runs."""
    paths = (path for path in sorted(run_dir.rglob("*")) if path.is_file())
    named = {path.relative_to(run_dir).as_posix(): path.read_bytes() for path in paths}
    return {
        name: re.sub(SPEED, b"", data) if name.endswith("decoding.json") else data
        for name, data in named.items()
        if Path(name).name not in VARIES and not name.startswith(("checkpoints/", "evaluation/records/"))
    }


def outcome(code: int, error: str, name: str, expected: Mapping[str, bytes], run_dir: Path) -> str:
    """What became of a damaged file: "mended", "refused", or what must not be: "used", "traceback" or "unnamed".

    Args:
        code: exit code of the command that met the damage.
        error: what it printed to standard error.
        name: the damaged file.
        expected: :func:`contents` of the run without damage.
        run_dir: the run directory, after the command.
    """
    if "Traceback" in error or code not in (0, 2):
        return "traceback"
    if code == 2:
        return "refused" if Path(name).name in error else "unnamed"
    return "mended" if contents(run_dir) == expected else "used"
