"""Whether a run can resume from its checkpoint, known before anything is loaded."""

from pathlib import Path
from typing import Any

import yaml

from textgen.errors import UserError
from textgen.files import user_path
from textgen.run.directory import AUTO, RESOLVED, RunDirectory, differing_settings, fingerprint


def check_resume(resume: str, directory: RunDirectory, data_fingerprint: str) -> None:
    """Check that the checkpoint to resume from was written with the same settings and data.

    Its files are verified later, when it is loaded.

    Args:
        resume: ``--resume``: the path of a checkpoint, or "auto" or "never" for the newest one of the directory.
        directory: the run directory, with the settings that are requested.
        data_fingerprint: SHA-256 of the data.

    Raises:
        UserError: settings differ, which are named; or the data does.
    """
    from textgen.training.checkpoint_manifest import read_manifest

    is_path = resume not in ("auto", "never")
    checkpoint = (
        user_path(resume, setting="--resume")
        if is_path
        else max((directory.path / "checkpoints").glob("step-*"), default=None)
    )
    if checkpoint is None:
        return
    try:
        saved = dict(read_manifest(checkpoint)["fingerprints"])
    except (OSError, ValueError, KeyError, TypeError):
        return  # damaged: it is skipped, or the message comes when it is loaded
    setting = f"--resume {resume}" if is_path else str(checkpoint)
    existing = _settings(checkpoint)
    chosen = {name: existing.get(name, AUTO) for name in RESOLVED if directory.settings.get(name) == AUTO}
    if saved.get("settings") != fingerprint(directory.settings | chosen) and (existing or not chosen):
        differences = ", ".join(differing_settings(existing, directory.settings)[:6]) if existing else ""
        raise UserError(
            f"{setting}: this checkpoint was written with other settings, so the resumed run would differ from the "
            f"original one{f': {differences}' if differences else ''}. Use the same ones, or start a new run without "
            "--resume."
        )
    if saved.get("data") != data_fingerprint:
        raise UserError(
            f"{setting}: the data changed since this checkpoint was written, so the resumed run would differ from the "
            "original one. Restore it, or start a new run with --resume=never."
        )


def _settings(checkpoint: Path) -> dict[str, Any]:
    """The settings of the checkpoint's run; empty if its directory is not around it any more."""
    try:
        found = yaml.safe_load((checkpoint.parent.parent / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}
