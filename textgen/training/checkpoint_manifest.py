"""The manifest of a checkpoint: what must be in it, with checksums, and which run it belongs to.

``manifest.json`` holds the format, the step, size and SHA-256 of each file, the run's fingerprints, and a SHA-256 of
itself.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from textgen.files import sync

FORMAT = 1


def write_manifest(
    checkpoint: Path, *, step: int, files: Mapping[str, Mapping[str, Any]], fingerprints: Mapping[str, str]
) -> None:
    """Write ``manifest.json`` and sync it and the directory to disk.

    Args:
        checkpoint: the checkpoint's directory.
        step: the step after which it was taken.
        files: the checksums of every other file.
        fingerprints: identify what the checkpoint belongs to.
    """
    manifest = {"format": FORMAT, "step": step, "files": dict(files), "fingerprints": dict(fingerprints)}
    (checkpoint / "manifest.json").write_text(_with_checksum(manifest), encoding="utf-8")
    sync(checkpoint / "manifest.json")
    sync(checkpoint)


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of an intact checkpoint (:func:`find_damage`)."""
    return json.loads((path / "manifest.json").read_text(encoding="utf-8"))


def find_damage(path: Path) -> str | None:
    """What is wrong with a checkpoint, or None if all checksums match."""
    try:
        manifest = read_manifest(path)
        del manifest["sha256"]
        if (path / "manifest.json").read_text(encoding="utf-8") != _with_checksum(manifest):
            return "manifest.json does not match its checksum"
        for name, expected in manifest["files"].items():
            file = path / name
            if not file.is_file():
                return f"{name} is missing"
            if file.stat().st_size != expected["size"] or _sha256(file) != expected["sha256"]:
                return f"{name} does not match its checksum"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return "manifest.json cannot be read"
    return None


def _with_checksum(manifest: dict[str, Any]) -> str:
    """A manifest's text with its own SHA-256, so that a flipped bit is reported as damage, not as changed settings."""
    digest = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    return json.dumps(manifest | {"sha256": digest}, indent=2) + "\n"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
