"""Whether the run in a directory can go on with another number of steps or epochs, and what to do if it cannot.

It can if the longer run, started anew, would have computed the same steps so far: then it goes on, and ends with the
same bytes. What the shorter run recorded only because it ended is removed (``textgen/reporting/earlier_end.py``).
"""

import glob
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from textgen.errors import UserError
from textgen.files import user_path
from textgen.plan.resume import read_settings, settings_of
from textgen.run.directory import LENGTH, RunDirectory, differing_settings
from textgen.training.checkpoint_manifest import read_manifest
from textgen.training.config import TrainingConfig
from textgen.training.extend import first_other_rate, resolved
from textgen.training.schedule import SCHEDULES, learning_rate_at

_MOST_COMPARED = 50  # runs, a few milliseconds each


def check_length(training: TrainingConfig, directory: RunDirectory, total_steps: int | None) -> None:
    """Check that a run that was begun with another number of steps can go on to this one.

    Args:
        training: the settings that are requested.
        directory: the run directory.
        total_steps: the number of steps; None as long as ``--epochs`` has not been counted, and nothing is checked.

    Raises:
        UserError: it cannot.
    """
    checkpoint = max((directory.path / "checkpoints").glob("step-*"), default=None)
    if checkpoint is None or total_steps is None:
        return
    existing = settings_of(checkpoint)
    if not existing or all(existing.get(name) == directory.settings.get(name) for name in LENGTH):
        return
    done, place = int(checkpoint.name.removeprefix("step-")), f"--run-dir {directory.path}"
    before, before_total = _training(existing), _total(directory, existing)
    if total_steps <= done:
        raise UserError(
            f"{_length(training)}: the run in {place} has been trained for {done:,} steps already. Ask for more, or "
            "name another directory."
        )
    if before is None or before_total is None:
        raise UserError(
            f"{_length(training)}: what the run in {place} was to be is not known any more. Use its own length "
            f"({_length_of(existing)}), or name another directory."
        )
    step = first_other_rate(done, before, before_total, training, total_steps)
    if step is not None:
        reason = _reason(step, before, before_total, training, total_steps)
        kept = replace(training, warmup_steps=before.warmup_steps)
        if first_other_rate(done, before, before_total, kept, total_steps) is None:
            remedy = f"Add --warmup-steps {before.warmup_steps} to go on with the warm-up that it had."
        else:
            remedy = (
                f"Name another directory to train all {total_steps:,} steps, or go on from its weights in another "
                f"directory with --resume {checkpoint}."
            )
        raise UserError(
            f"{_length(training)}: the run in {place} cannot go on to {total_steps:,} steps. {reason} {remedy}"
        )


def check_steps_left(resume: str, training: TrainingConfig, directory: RunDirectory, total_steps: int | None) -> None:
    """Check that ``--resume CHECKPOINT``, of another run, leaves steps to train.

    Args:
        resume: ``--resume``; only the path of a checkpoint is checked.
        training: the settings that are requested.
        directory: the run directory.
        total_steps: the number of steps; None as long as it is not known, and nothing is checked.

    Raises:
        UserError: the checkpoint has as many steps already.
    """
    if resume in ("auto", "never") or total_steps is None:
        return
    checkpoint = user_path(resume, setting="--resume")
    if checkpoint.parent.resolve() == (directory.path / "checkpoints").resolve():
        return
    try:
        done = int(read_manifest(checkpoint)["step"])
    except (OSError, ValueError, KeyError, TypeError):
        return  # damaged: the message comes when it is loaded
    if total_steps <= done:
        raise UserError(
            f"{_length(training)}: --resume {resume} goes on after step {done:,}, so of {total_steps:,} steps none is "
            "left. Steps count from the start of the earlier run: ask for more."
        )


def other_lengths(directory: RunDirectory) -> list[str]:
    """Lines about runs that differ from a new one, whose directory has the default name, in their length alone."""
    if directory.settings.get("run_dir") is not None or directory.exists():
        return []
    stem = directory.path.name.rpartition("-")[0]
    notes = []
    for path in sorted(directory.path.parent.glob(f"{glob.escape(stem)}-*/config.yaml"))[:_MOST_COMPARED]:
        existing = read_settings(path)
        if existing and not differing_settings(existing, directory.settings, ignoring=LENGTH):
            place = path.parent
            notes.append(f"{place} has this run with {_length_of(existing)}; to go on with it, add --run-dir {place}")
    return notes


def _reason(step: int, before: TrainingConfig, before_total: int, training: TrainingConfig, total: int) -> str:
    now = resolved(training, before, total)
    rates = learning_rate_at(step, before, before_total), learning_rate_at(step, now, total)
    return (
        f"Its steps so far would have had other learning rates, such as {rates[1]:.3g} instead of {rates[0]:.3g} in "
        f"step {step}: --schedule {before.schedule} of {before_total:,} steps, with {before.warmup_steps} of warm-up, "
        f"is not that of {total:,}, with {now.warmup_steps}."
    )


def _training(settings: Mapping[str, Any]) -> TrainingConfig | None:
    """The training settings of an earlier run; None if they have no numbers for what was ``auto``, or are damaged."""
    names = {field.name for field in fields(TrainingConfig)}
    found = TrainingConfig(**{name: value for name, value in settings.items() if name in names})
    has_numbers = isinstance(found.learning_rate, int | float) and isinstance(found.warmup_steps, int)
    return found if has_numbers and found.schedule in SCHEDULES else None


def _total(directory: RunDirectory, settings: Mapping[str, Any]) -> int | None:
    """The number of steps of the run in the directory; None if it is not known."""
    recorded = directory.written_environment().get("total_steps")
    steps = settings.get("steps")
    return next((number for number in (steps, recorded) if isinstance(number, int)), None)


def _length(training: TrainingConfig) -> str:
    return _length_of({"steps": training.steps, "epochs": training.epochs})


def _length_of(settings: Mapping[str, Any]) -> str:
    given = [f"--{name} {settings[name]}" for name in LENGTH if settings.get(name) is not None]
    return " ".join(given) or "the default of one epoch"
