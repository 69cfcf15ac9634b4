"""Whether a run can resume from its checkpoint, known before anything is loaded."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from textgen.errors import UserError
from textgen.evaluation.config import EvaluationConfig
from textgen.files import user_path
from textgen.run.changes import Files, name_changes
from textgen.run.copies import intact_copy
from textgen.run.directory import AUTO, LENGTH, RESOLVED, RunDirectory, differing_settings
from textgen.run.manifest import read_manifest as read_run_manifest
from textgen.run.settings_file import parse_settings

# Settings that may differ from those of a checkpoint of another run: with them, the weights and the optimizer's state
# mean the same, and the step is the same place in the data.
CHANGEABLE = (
    *LENGTH,
    *("learning_rate", "schedule", "warmup_steps", "weight_decay", "max_grad_norm", "microbatch_size"),
    "max_skipped_steps",
    *("lora_plus_ratio", "dropout", "attention_dropout", "lora_dropout"),
    *("gradient_checkpointing", "compile", "exact", "trust_remote_code", "retain_data"),
    *("evaluate_every", "training_evaluation_tokens", "log_every", "sample_every"),
    *(field.name for field in fields(EvaluationConfig)),
)


def check_resume(
    resume: str, directory: RunDirectory, data_fingerprint: str, inputs: Mapping[str, Files] | None = None
) -> list[str]:
    """Check that the checkpoint to resume from was written with the same data, and settings that permit it.

    The newest checkpoint of the run directory has the same settings, except for the length (see
    :mod:`textgen.plan.extend`). One that ``--resume`` names, of another run, may differ in :data:`CHANGEABLE` ones.
    Its files are verified later, when it is loaded.

    Args:
        resume: ``--resume``: the path of a checkpoint, or "auto" or "never" for the newest one of the directory.
        directory: the run directory, with the settings that are requested.
        data_fingerprint: SHA-256 of the data.
        inputs: the files that are read now, to name those that changed.

    Returns:
        The settings that differ, as lines to print.

    Raises:
        UserError: settings differ, which are named; or the data does, whose files are.
    """
    from textgen.training.checkpoint_manifest import read_manifest

    is_path = resume not in ("auto", "never")
    own = directory.path / "checkpoints"
    checkpoint = user_path(resume, setting="--resume") if is_path else max(own.glob("step-*"), default=None)
    if checkpoint is None:
        _check_begun(directory, data_fingerprint, inputs or {})
        return []
    try:
        saved = dict(read_manifest(checkpoint)["fingerprints"])
    except (OSError, ValueError, KeyError, TypeError):
        return []  # damaged: it is skipped, or the message comes when it is loaded
    setting = f"--resume {resume}" if is_path else str(checkpoint)
    is_foreign = is_path and checkpoint.parent.resolve() != own.resolve()
    notes = _check_settings(setting, checkpoint, saved.get("settings"), directory, is_foreign=is_foreign)
    if saved.get("data") != data_fingerprint:
        raise UserError(
            f"{setting}: the data changed since this checkpoint was written"
            f"{name_changes(checkpoint, ['data'], inputs or {})}, so the resumed run would differ from the original "
            "one. Restore it, or start a new run with --resume=never."
        )
    return notes


def _check_settings(
    setting: str, checkpoint: Path, saved: str | None, directory: RunDirectory, *, is_foreign: bool
) -> list[str]:
    existing = settings_of(checkpoint)
    if not existing:
        chosen = any(directory.settings.get(name) == AUTO for name in RESOLVED)
        if chosen or saved in (directory.fingerprint, directory.checkpoint_fingerprint):
            return []
    ignored = CHANGEABLE if is_foreign else LENGTH
    differences = differing_settings(existing, directory.settings, ignoring=ignored) if existing else []
    if differences or not existing:
        named = f": {', '.join(differences[:6])}" if differences else ""
        raise UserError(
            f"{setting}: this checkpoint was written with other settings, so the resumed run would differ from the "
            f"original one{named}. Use the same ones, or start a new run without --resume."
        )
    changed = differing_settings(existing, directory.settings) if is_foreign else []
    return [f"{setting}: settings that differ from those of its run: {', '.join(changed)}"] if changed else []


def _check_begun(directory: RunDirectory, data_fingerprint: str, inputs: Mapping[str, Files]) -> None:
    """Check that a run without a checkpoint still has the data that it began with: it may have been measured on it."""
    before = directory.written_environment().get("data_sha256")
    if before in (None, data_fingerprint) or not (directory.path / "evaluation").is_dir():
        return
    files = name_changes(directory.path / "checkpoints" / "none", ["data"], inputs)
    raise UserError(
        f"{directory.path}: the data changed since this run was started{files}. Restore it, or start a new run with "
        "--resume=never."
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


def settings_of(checkpoint: Path) -> dict[str, Any]:
    """The settings of the checkpoint's run; empty if it has no copy, and its directory is not around it any more."""
    data = intact_copy(checkpoint, "config.yaml")
    try:
        data = data or (checkpoint.parent.parent / "config.yaml").read_bytes()
    except OSError:
        return {}
    return parse_settings(data) or {}


def read_settings(path: Path) -> dict[str, Any]:
    """The settings in the ``config.yaml`` of a run; empty if it is missing or damaged."""
    try:
        return parse_settings(path.read_bytes()) or {}
    except OSError:
        return {}
