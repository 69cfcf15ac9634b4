"""The manifest of a finished run: the SHA-256 of what it wrote, its settings and its last status.

``manifest.json`` is written when a run ends. With it, the same command knows whether the results are still the ones
that the run computed: a file that was damaged since then is named, and restored if there is a checkpoint to restore it
from.

The report, the model card and other files named ``README.md`` are not in it: people edit them, and they are written
from the others. Nor are the caches of an evaluation, whose lines have checksums of their own.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from textgen.checksums import file_sha256, read_sealed, write_sealed
from textgen.errors import UserError

MANIFEST = "manifest.json"


def write_manifest(
    run_dir: Path, files: Mapping[str, str], status: Mapping[str, Any], settings: Mapping[str, Any] | None = None
) -> None:
    """Write the manifest.

    Args:
        run_dir: the run directory.
        files: path below it → SHA-256.
        status: what ``status.json`` will contain.
        settings: what ``config.yaml`` contains.
    """
    facts = {"files": dict(files), "status": dict(status), "settings": dict(settings or {})}
    write_sealed(run_dir / MANIFEST, facts)


def read_manifest(run_dir: Path) -> dict[str, Any] | None:
    """The manifest; None if there is none, or if it is damaged."""
    return read_sealed(run_dir / MANIFEST)


def damaged_files(run_dir: Path, files: Mapping[str, str]) -> list[str]:
    """The files that are missing, or no longer what they were.

    Arguments as for :func:`write_manifest`.
    """
    return [name for name, sha256 in files.items() if file_sha256(run_dir / name) != sha256]


def hash_model(directory: Path) -> dict[str, str]:
    """Path below the run directory → SHA-256, of every file of a saved model except its card.

    Args:
        directory: ``model/`` in the run directory.
    """
    return {
        path.relative_to(directory.parent).as_posix(): sha256
        for path in _files(directory)
        if (sha256 := file_sha256(path)) is not None
    }


def check_model(directory: Path, *, setting: str) -> None:
    """Check a model before it is used: if it is the result of a finished run, it must be what the run wrote.

    Args:
        directory: the model's directory, of a run or not.
        setting: the flag that named it, for error messages.

    Raises:
        UserError: a file of it is missing or damaged.
    """
    directory = directory.resolve()
    manifest = read_manifest(directory.parent) or {"files": {}}
    own = {name: sha256 for name, sha256 in manifest["files"].items() if name.startswith(f"{directory.name}/")}
    if damaged := damaged_files(directory.parent, own):
        raise UserError(
            f"{setting} {directory.parent / damaged[0]}: missing or damaged: it is not what the run wrote. Run the "
            "command of the run again to restore it. If you changed it on purpose, use a copy of the directory."
        )


def _files(directory: Path) -> Iterator[Path]:
    return (path for path in sorted(directory.rglob("*")) if path.is_file() and path.name != "README.md")
