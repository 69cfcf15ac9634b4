"""Copies of a run's small files in its checkpoints: the settings, the environment and the records.

They are listed in a checkpoint's manifest with their SHA-256, like its tensors. So what is damaged in the run directory
can be restored from the newest checkpoint that has it.
"""

from pathlib import Path

from textgen.checksums import read_sealed, sha256_of


def intact_copy(checkpoint: Path, name: str) -> bytes | None:
    """The contents of a file in a checkpoint; None if it is not there, or damaged.

    Args:
        checkpoint: the checkpoint's directory. Its other files are not looked at.
        name: the name of the file.
    """
    manifest = read_sealed(checkpoint / "manifest.json") or {}
    try:
        data = (checkpoint / name).read_bytes()
        return data if manifest["files"][name]["sha256"] == sha256_of(data) else None
    except (OSError, KeyError, TypeError):
        return None


def newest_copy(run_dir: Path, name: str) -> bytes | None:
    """The contents of a file in the newest checkpoint of a run that has it intact; None if none has."""
    checkpoints = sorted((run_dir / "checkpoints").glob("step-*"), reverse=True)
    return next((copy for path in checkpoints if (copy := intact_copy(path, name)) is not None), None)
