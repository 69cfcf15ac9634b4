"""SHA-256 of files, and JSON that carries a SHA-256 of itself: damage is noticed when a file is read.

A *seal* is the member ``"sha256"`` of a JSON object: the hash of the rest of it. Without one, a flipped byte in a
number would be another number.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from textgen.files import write_json

_SEAL = "sha256"


def sha256_of(data: bytes | bytearray) -> str:
    """SHA-256 of some bytes, in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def file_sha256(path: Path) -> str | None:
    """SHA-256 of a file, read in bounded memory; None if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def with_seal(value: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object with its seal as the last member."""
    assert _SEAL not in value, "a value of its own would be lost"
    return {**value, _SEAL: _seal_of(value)}


def write_sealed(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object with its seal, atomically."""
    write_json(path, with_seal(value))


def read_sealed(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file without its seal; None if there is none, or if the seal does not match."""
    try:
        return check_seal(json.loads(path.read_bytes()))
    except (OSError, ValueError, RecursionError):
        return None


def check_seal(value: Any) -> dict[str, Any] | None:
    """A JSON object without its seal; None if it is something else, or if the seal does not match."""
    if not isinstance(value, dict):
        return None
    rest = {name: item for name, item in value.items() if name != _SEAL}
    return rest if value.get(_SEAL) == _seal_of(rest) else None


def _seal_of(value: Mapping[str, Any]) -> str:
    return sha256_of(json.dumps(value, sort_keys=True).encode())
