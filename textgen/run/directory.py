"""The run directory: its name, the run that owns it, and the state of that run.

The same command finds its own directory again: the name contains a fingerprint of every setting that a result depends
on.
"""

import hashlib
import json
import os
import re
import socket
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from textgen.checksums import check_seal, read_sealed, sha256_of
from textgen.config import as_utf8, flag
from textgen.disk import FULL
from textgen.errors import UserError
from textgen.files import json_bytes, mend, overwrite, read_json, user_path, write_bytes
from textgen.launch_environment import is_main_process
from textgen.run.config import NOT_FINGERPRINTED
from textgen.run.copies import newest_copy
from textgen.run.lock import LOCK_FILE, is_locked, lock_holder, take_lock
from textgen.run.manifest import MANIFEST, damaged_files, read_manifest, write_manifest
from textgen.run.settings_file import parse_settings, settings_text
from textgen.run.writable import check_writable
from textgen.terminal import shown

AUTO = "auto"
STATES = ("running", "done", "failed", "preempted")
RESOLVED = ("block_size", "packing", "learning_rate", "warmup_steps")  # if auto, chosen for the model and the data

LENGTH = ("steps", "epochs")  # a run may go on with another number of them: see textgen.plan.extend


def fingerprint(settings: Mapping[str, Any]) -> str:
    """SHA-256 of the settings that a result depends on."""
    decisive = {name: value for name, value in sorted(settings.items()) if name not in NOT_FINGERPRINTED}
    return hashlib.sha256(json.dumps(decisive).encode()).hexdigest()


def differing_settings(
    existing: Mapping[str, Any], requested: Mapping[str, Any], *, ignoring: Collection[str] = ()
) -> list[str]:
    """The settings in which two runs differ that a result depends on, each with both values.

    A requested "auto" of the :data:`RESOLVED` settings may become any value.
    """
    return [
        f"{name}: {existing.get(name)} (existing) vs {requested.get(name)} (requested)"
        for name in {**requested, **existing}
        if name not in NOT_FINGERPRINTED
        and name not in ignoring
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
        written: contents of the small files that this process writes, by name.
    """

    def __init__(self, settings: Mapping[str, Any], *, path: str | None, name: str, resume: str = "auto") -> None:
        self.settings = dict(settings)
        self.fingerprint = fingerprint(settings)
        self.created = False
        self.written: dict[str, bytes | bytearray] = {}
        self._damage: list[str] | None = None  # of a finished run, once it was looked for
        self._named_by_user = path is not None
        if path is not None and not path.strip():
            raise UserError(f"{self._flag} '{path}': must be the name of a directory.")
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
        return (self.path / "config.yaml").is_file() or self._existing_settings() is not None

    def has_finished(self) -> bool:
        """Whether the run here finished, whatever happened to its files since, and is to be no longer."""
        finished = self.status().get("state") == "done" or read_manifest(self.path) is not None
        return finished and not self.has_other_length()

    def is_complete(self) -> bool:
        """Whether the run here finished, and its files are what it wrote."""
        return self.has_finished() and not self.damage()

    def damage(self) -> list[str]:
        """The files of a finished run that are missing, or no longer what it wrote; all of them are read, once.

        They are the ones that ``manifest.json`` lists, or that file itself.
        """
        if self._damage is None:
            manifest = read_manifest(self.path)
            self._damage = [MANIFEST] if manifest is None else damaged_files(self.path, manifest["files"])
        return self._damage

    def restore_status(self) -> None:
        """Write ``status.json`` of a complete run again, if it is damaged; only the main process does."""
        manifest = read_manifest(self.path)
        if manifest and is_main_process():
            mend(self.path / "status.json", json_bytes(manifest["status"]))

    def has_other_length(self) -> bool:
        """Whether the run here was started with another number of steps or epochs than is requested."""
        existing = self._existing_settings() or self.settings
        return any(existing.get(name) != self.settings.get(name) for name in LENGTH)

    @property
    def checkpoint_fingerprint(self) -> str:
        """SHA-256 of the settings that the weights after a step depend on, as far as :attr:`fingerprint` has them."""
        return fingerprint({name: value for name, value in self.settings.items() if name not in LENGTH})

    def describe(self) -> str:
        """The state of the run here, for a plan."""
        if self.is_complete():
            return "already complete, so nothing would be done; use --resume=never to start another alongside"
        if self.has_finished():
            return f"complete, but damaged ({', '.join(self.damage()[:3])}), so it would be finished again"
        return "to be resumed" if self.exists() else "new"

    def status(self) -> dict[str, Any]:
        """The contents of ``status.json``; empty if missing or damaged."""
        try:
            found = read_json(self.path / "status.json")
        except (UserError, OSError):  # such as a name that is too long
            return {}
        return found if found.get("state") in STATES and isinstance(found.get("step", 0), int) else {}

    def environment(self) -> dict[str, Any]:
        """The contents of ``environment.json``, or of its newest copy if it is damaged; empty if there is neither."""
        found = read_sealed(self.path / "environment.json")
        if found is None and (copy := newest_copy(self.path, "environment.json")) is not None:
            found = check_seal(json.loads(copy))
        return found or {}

    def written_environment(self) -> dict[str, Any]:
        """What ``environment.json`` contains now; empty if it is missing or damaged. No result may depend on it."""
        try:
            return read_json(self.path / "environment.json")
        except UserError:
            return {}

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
                f"{self._flag} {self.path}: the directory is not empty and holds no run: there is no config.yaml "
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
            (self.path / MANIFEST).unlink(missing_ok=True)  # of a run that is finished again
            self.write_file("config.yaml", settings_text(self.settings | {self._setting: as_utf8(str(self.path))}))
        except OSError as error:
            file = error.filename2 or error.filename or self.path
            raise UserError(f"{self._flag} {file}: cannot be written: {error.strerror}.") from None
        self.created = True

    def write_file(self, name: str, data: bytes) -> None:
        """Write a small file, of which checkpoints get a copy."""
        self.written[name] = data
        write_bytes(self.path / name, data)

    def copies(self) -> dict[str, bytes]:
        """Names and contents of the small files that this process writes, for a checkpoint."""
        return {name: bytes(data) for name, data in self.written.items() if data}

    def mend(self) -> list[str]:
        """Write small files again that were damaged since this process wrote them; returns their names."""
        return [name for name, data in self.written.items() if mend(self.path / name, data)]

    def finish(self, files: Mapping[str, str], *, step: int) -> None:
        """Write ``manifest.json``, and mark the run as done.

        Args:
            files: path below the directory → SHA-256, of the files that :meth:`write_file` has not written.
            step: the last step.
        """
        own = {name: sha256_of(data) for name, data in self.written.items() if data}
        status = self._status("done", step=step, exit_code=0)
        write_manifest(self.path, own | dict(files), status, self.settings)
        self.write_status("done", step=step, exit_code=0)

    def write_status(self, state: str, *, step: int = 0, exit_code: int | None = None, message: str = "") -> None:
        """Write ``status.json``."""
        path = self.path / "status.json"
        data = json_bytes(self._status(state, step=step, exit_code=exit_code, message=shown(message)))
        try:
            write_bytes(path, data)
        except OSError as error:
            if state not in ("failed", "preempted") or error.errno not in FULL:
                raise
            overwrite(path, data)
        self._damage = None

    def record_end(self, state: str, exit_code: int, message: str, *, step: int | None = None) -> None:
        """Write how the run ended to ``status.json``, unless the directory belongs to another run or a finished one.

        Args:
            state: "failed" or "preempted".
            exit_code: the exit code of the recipe.
            message: what its user was told.
            step: the last step that is saved; by default, the last one that was logged.
        """
        status = self.status()
        try:
            if not self.created:
                if not self._named_by_user or status.get("state") == "done":
                    return
                if self._other_files() or is_locked(self.path):
                    return
            elif not self.path.is_dir():
                return  # it is gone; writing would create it again, perhaps on another file system
            self.write_status(
                state, step=status.get("step", 0) if step is None else step, exit_code=exit_code, message=message
            )
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
        found = lock_holder(self.path)
        holder = f"process {found[1]} on {found[0]}" if found else "another process"
        status = self.status()
        return UserError(
            f"{self._flag} {self.path}: {holder} is writing to it, at step {status.get('step', 0)}. Wait for it or end "
            "it, or use --resume=never to start another run alongside."
        )

    def _status(self, state: str, *, step: int, exit_code: int | None, message: str = "") -> dict[str, Any]:
        status = {"state": state, "exit_code": exit_code, "message": message, "step": step}
        return status | {"host": socket.gethostname(), "process_id": os.getpid()}

    def _existing_settings(self) -> dict[str, Any] | None:
        """The settings of the run here; if ``config.yaml`` is damaged, those that its newest checkpoint has, if any.

        Or if it has finished, those of its manifest.
        """
        path = self.path / "config.yaml"
        found = parse_settings(path.read_bytes()) if path.is_file() else None
        copy = newest_copy(self.path, path.name)
        kept = parse_settings(copy) if copy is not None else (read_manifest(self.path) or {}).get("settings")
        if kept and (found is None or fingerprint(found) != fingerprint(kept)):
            return kept
        return found

    def _compare_settings(self) -> None:
        existing = self._existing_settings()
        if existing is None:
            raise UserError(
                f"{self._flag} {self.path}: its config.yaml is damaged. Restore it, or choose another directory."
            )
        if differences := differing_settings(existing, self.settings, ignoring=LENGTH):
            raise UserError(
                f"{self._flag} {self.path}: holds a run with other settings (config.yaml). {', '.join(differences[:6])}"
                f". Choose another directory, or omit {self._flag} to get one for these settings."
            )
