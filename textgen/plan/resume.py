"""Whether a run can resume from its checkpoint, known before anything is loaded."""

from pathlib import Path
from typing import Any

from textgen.errors import UserError
from textgen.files import user_path
from textgen.run.copies import intact_copy
from textgen.run.directory import AUTO, RESOLVED, RunDirectory, differing_settings, fingerprint
from textgen.run.manifest import read_manifest as read_run_manifest
from textgen.run.settings_file import parse_settings


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


def check_restorable(directory: RunDirectory) -> None:
    """Check that a finished run whose files are damaged can be finished again: its last checkpoint must be intact.

    Otherwise it would be trained again from the start, over the results that are left.

    Raises:
        UserError: it is not; the message names a damaged file.
    """
    from textgen.training.checkpoint_manifest import find_damage, read_manifest

    if not directory.has_finished() or not directory.damage():
        return
    last = _last_step(directory)
    for checkpoint in sorted((directory.path / "checkpoints").glob("step-*"), reverse=True):
        if find_damage(checkpoint) is None and last in (None, read_manifest(checkpoint)["step"]):
            return
    damaged = directory.damage()
    others = f" (and {len(damaged) - 1} more)" if len(damaged) > 1 else ""
    raise UserError(
        f"{directory.path / damaged[0]}{others}: missing or damaged, and no intact checkpoint of the last step is left "
        "to restore it from. Restore the file, or start a new run with --resume=never."
    )


def _last_step(directory: RunDirectory) -> int | None:
    """The last step of a finished run; None if that is unknown, since its status is damaged."""
    manifest = read_run_manifest(directory.path)
    step = (manifest["status"] if manifest else directory.status()).get("step")
    return step if isinstance(step, int) else None


def _settings(checkpoint: Path) -> dict[str, Any]:
    """The settings of the checkpoint's run; empty if it has no copy, and its directory is not around it any more."""
    data = intact_copy(checkpoint, "config.yaml")
    try:
        data = data or (checkpoint.parent.parent / "config.yaml").read_bytes()
    except OSError:
        return {}
    return parse_settings(data) or {}
