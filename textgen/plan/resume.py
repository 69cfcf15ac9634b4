"""Whether a run can resume from its checkpoint, known before anything is loaded."""

from pathlib import Path

import yaml

from textgen.errors import UserError
from textgen.files import user_path
from textgen.run.directory import RunDirectory, differing_settings


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
    if saved.get("settings") != directory.fingerprint:
        differences = _differences(checkpoint, directory)
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


def _differences(checkpoint: Path, directory: RunDirectory) -> str:
    """The settings of the checkpoint's run that differ; empty if its directory is not around it any more."""
    try:
        existing = yaml.safe_load((checkpoint.parent.parent / "config.yaml").read_text(encoding="utf-8"))
        return ", ".join(differing_settings(existing, directory.settings)[:6])
    except (OSError, ValueError, AttributeError, TypeError, yaml.YAMLError):
        return ""
