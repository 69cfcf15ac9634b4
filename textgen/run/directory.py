"""The run directory: its name, the run that owns it, and the state of that run.

The same command finds its own directory again: the name contains a fingerprint of every setting that a result depends
on.
"""

import hashlib
import json
import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from textgen.config import as_utf8, flag
from textgen.errors import UserError
from textgen.files import read_json, user_path, write_bytes, write_json
from textgen.launch_environment import is_main_process
from textgen.run.config import NOT_FINGERPRINTED
from textgen.run.lock import LOCK_FILE, is_locked, take_lock
from textgen.terminal import shown

AUTO = "auto"
RESOLVED = ("block_size", "packing", "learning_rate", "warmup_steps")  # if auto, chosen for the model and the data


def fingerprint(settings: Mapping[str, Any]) -> str:
    """SHA-256 of the settings that a result depends on."""
    decisive = {name: value for name, value in sorted(settings.items()) if name not in NOT_FINGERPRINTED}
    return hashlib.sha256(json.dumps(decisive).encode()).hexdigest()


def differing_settings(existing: Mapping[str, Any], requested: Mapping[str, Any]) -> list[str]:
    """The settings in which two runs differ that a result depends on, each with both values.

    A requested "auto" of the :data:`RESOLVED` settings may become any value.
    """
    return [
        f"{name}: {existing.get(name)} (existing) vs {requested.get(name)} (requested)"
        for name in {**requested, **existing}
        if name not in NOT_FINGERPRINTED
        and requested.get(name) != existing.get(name)
        and not (name in RESOLVED and requested.get(name) == AUTO)
    ]


class RunDirectory:
    """One run's directory.

    Args:
        settings: every setting in force (:func:`textgen.config.settings`).
        path: the directory that the user named, if any.
        name: first part of the default name, such as "tiny-gpt2-lora-python-reference".
        resume: "auto", "never" or a checkpoint path; "never" picks a new directory if this one is in use.

    Attributes:
        path: the directory.
        settings: every setting in force.
        fingerprint: SHA-256 of the settings that a result depends on; of their resolved values, after :meth:`resolve`.
        created: whether :meth:`create` was called, so that the directory is this run's own.
    """

    def __init__(self, settings: Mapping[str, Any], *, path: str | None, name: str, resume: str = "auto") -> None:
        self.settings = dict(settings)
        self.fingerprint = fingerprint(settings)
        self.created = False
        self._named_by_user = path is not None
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "run"
        default = Path("runs") / f"{plain}-{self.fingerprint[:8]}"
        self.path = default if path is None else user_path(path, setting=self._flag)
        if resume == "never":
            first, number = self.path, 1
            while self._other_files():
                number += 1
                self.path = first.with_name(f"{first.name}-{number}")

    def exists(self) -> bool:
        """Whether a run was started here."""
        return (self.path / "config.yaml").is_file()

    def is_complete(self) -> bool:
        """Whether the run here finished."""
        return self.status().get("state") == "done"

    def describe(self) -> str:
        """The state of the run here, for a plan."""
        if self.is_complete():
            return "already complete, so nothing would be done; use --resume=never to start another alongside"
        return "to be resumed" if self.exists() else "new"

    def status(self) -> dict[str, Any]:
        """The contents of ``status.json``; empty if missing or damaged."""
        try:
            return read_json(self.path / "status.json")
        except (UserError, OSError):  # such as a name that is too long
            return {}

    def environment(self) -> dict[str, Any]:
        """The contents of ``environment.json`` of the run that was started here; empty if there is none.

        Raises:
            UserError: it is damaged.
        """
        return read_json(self.path / "environment.json")

    def check(self) -> None:
        """Make sure that the directory can be used, without touching it.

        Raises:
            UserError: it holds a run with other settings (which are named) or other files, is in use by another
                process, or is not writable.
        """
        check_writable(self.path, setting=self._flag)
        if not self.path.exists():
            return
        if self.exists():
            self._compare_settings()
        elif other_files := self._other_files():
            raise UserError(
                f"{self._flag} {self.path}: the directory is not empty and holds no run "
                f"({', '.join(other_files[:5])}). Choose a new or empty directory."
            )
        if is_main_process() and is_locked(self.path):
            raise self._in_use()

    def resolve(self, values: Mapping[str, Any]) -> None:
        """Record the values of settings that were ``auto``; call it before :meth:`create`.

        Raises:
            UserError: the directory holds a run with other values.
        """
        self.settings |= values
        self.fingerprint = fingerprint(self.settings)
        if self.exists():
            self._compare_settings()

    def create(self) -> None:
        """Create the directory and write ``config.yaml``, which makes it this run's own; call :meth:`check` first.

        The main process calls this, and holds the directory until it ends.

        Raises:
            UserError: it is not writable, or in use by another process.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if not take_lock(self.path):
                raise self._in_use()
            # In ASCII: PyYAML does not always read back other characters as it wrote them.
            text = yaml.safe_dump(self.settings | {self._setting: as_utf8(str(self.path))}, sort_keys=False)
            write_bytes(self.path / "config.yaml", text.encode())
        except OSError as error:
            raise UserError(f"{self._flag} {self.path}: cannot be written: {error.strerror}.") from None
        self.created = True

    def write_status(self, state: str, *, step: int = 0, exit_code: int | None = None, message: str = "") -> None:
        """Write ``status.json``."""
        status = {"state": state, "exit_code": exit_code, "message": shown(message), "step": step}
        write_json(self.path / "status.json", status | {"host": socket.gethostname(), "process_id": os.getpid()})

    def record_failure(self, exit_code: int, message: str) -> None:
        """Write a failure to ``status.json``, unless the directory belongs to another run or to a finished one."""
        status = self.status()
        try:
            if not self.created:
                if not self._named_by_user or status.get("state") == "done":
                    return
                if self._other_files() or is_locked(self.path):
                    return
            self.write_status("failed", step=status.get("step", 0), exit_code=exit_code, message=message)
        except OSError:
            return  # the message still goes to the terminal

    def tracking_id(self) -> str:
        """The run's id for experiment trackers: stable when the run is resumed, different for every other run."""
        place = os.fsencode(self.path.resolve())  # not every name is UTF-8
        return hashlib.sha256(place + self.fingerprint.encode()).hexdigest()[:12]

    @property
    def _setting(self) -> str:
        return "output_dir" if "output_dir" in self.settings else "run_dir"

    @property
    def _flag(self) -> str:
        return flag(self._setting)

    def _other_files(self) -> list[str]:
        """Names in the directory besides the status of an earlier failure, and a lock."""
        if not self.path.is_dir():
            return []
        return sorted({path.name for path in self.path.iterdir()} - {"status.json", LOCK_FILE})

    def _in_use(self) -> UserError:
        status = self.status()
        holder = f"process {status['process_id']} on {status['host']}" if "process_id" in status else "another process"
        return UserError(
            f"{self._flag} {self.path}: {holder} is writing to it, at step {status.get('step', 0)}. Wait for it or end "
            "it, or use --resume=never to start another run alongside."
        )

    def _compare_settings(self) -> None:
        try:
            existing = yaml.safe_load((self.path / "config.yaml").read_text(encoding="utf-8"))
            assert isinstance(existing, dict)
        except (yaml.YAMLError, UnicodeDecodeError, AssertionError):
            raise UserError(
                f"{self._flag} {self.path}: its config.yaml is damaged. Restore it, or choose another directory."
            ) from None
        if differences := differing_settings(existing, self.settings):
            raise UserError(
                f"{self._flag} {self.path}: holds a run with other settings. {', '.join(differences[:6])}. Choose "
                f"another directory, or omit {self._flag} to get one for these settings."
            )


def check_writable(path: Path, *, setting: str) -> None:
    """Check that a directory is writable, or can be created; nothing is touched.

    Args:
        path: the directory.
        setting: the flag that named it, for error messages.

    Raises:
        UserError: it is not.
    """
    try:
        if path.exists() and not path.is_dir():
            raise UserError(f"{setting} {path}: cannot be written: this is a file. Name a directory.")
    except OSError as error:  # such as a name that is too long
        raise UserError(f"{setting} {path}: cannot be written: {error.strerror}.") from None
    existing = path
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK) or _is_virtual(existing):
        raise UserError(f"{setting} {path}: cannot be written ({existing} is not a writable directory).")


def _is_virtual(path: Path) -> bool:
    # The superuser passes every permission check, also in /proc and /sys, where nothing can be created.
    return path.resolve().parts[:2] in (("/", "proc"), ("/", "sys"))
