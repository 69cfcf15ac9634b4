"""The run directory: its name, whose it is, what state it is in; and how a recipe ends.

The same command finds its own directory: its name comes from the model, the method, the data and a fingerprint of every
setting that a result depends on.
"""

import hashlib
import json
import os
import re
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from textgen.config import parse
from textgen.errors import Diverged, UserError
from textgen.training.allocator import preload_allocator

_TIME_TO_SPEAK = 5.0  # seconds

# What may differ between two runs that compute the same thing.
WITHOUT_EFFECT = {
    *(
        "run_dir",
        "output_dir",
        "resume",
        "checkpoint_every",
        "keep_checkpoints",
        "track",
        "wandb_project",
        "wandb_mode",
    ),
    *("dry_run", "threads"),
}


@dataclass(frozen=True)
class RunConfig:
    """Where the run is written, how often it is saved and looked at, and who is told."""

    config: str | None = None
    """YAML file with settings of the same names; flags come on top of it."""
    run_dir: str | None = None
    """Directory of the run; under runs/, named by what is run, if not given."""
    resume: str = "auto"
    """auto goes on where this same run stopped, never starts a new one beside it, and a path to a checkpoint goes on
    from there."""
    evaluate_every: int = 50
    """Steps between two measurements of the validation documents; 0 for before and after only."""
    checkpoint_every: int = 50
    """Steps between two checkpoints; 0 for the last step only."""
    keep_checkpoints: int = 2
    """How many of the last checkpoints are kept, besides the best."""
    log_every: int = 10
    """Steps between two rows of metrics.jsonl."""
    sample_every: int = 0
    """Steps between two looks at what the model writes: a few prompts, always the same, with the same luck; 0 for
    none."""
    track: Literal["wandb", "none"] = "wandb"
    """Who mirrors the record."""
    wandb_project: str = "textgen"
    """Project on Weights & Biases."""
    wandb_mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    """auto is online when you are logged in, else offline."""
    dry_run: bool = False
    """Resolve and check everything, print the plan, and stop before anything is written."""

    def problems(self) -> list[str]:
        """What is wrong with these settings by themselves, one remedy each."""
        least = {"evaluate_every": 0, "checkpoint_every": 0, "keep_checkpoints": 1, "log_every": 1, "sample_every": 0}
        found = [
            f"--{name.replace('_', '-')} {getattr(self, name)}: give at least {minimum}."
            for name, minimum in least.items()
            if getattr(self, name) < minimum
        ]
        if self.resume not in ("auto", "never") and not (Path(self.resume) / "manifest.json").is_file():
            found.append(f"--resume {self.resume}: give auto, never, or a checkpoint directory (with a manifest.json).")
        return found


def fingerprint(flat: Mapping[str, Any]) -> str:
    """SHA-256 of the settings that a result depends on."""
    decisive = {name: value for name, value in sorted(flat.items()) if name not in WITHOUT_EFFECT}
    return hashlib.sha256(json.dumps(decisive).encode()).hexdigest()


class RunDirectory:
    """One run's directory.

    Args:
        flat: every setting in force (:func:`textgen.config.settings`).
        given: the directory that the user named, if any.
        name: first part of the default name, such as "tiny-gpt2-lora-python-reference".
        resume: "auto", "never" or a checkpoint; the latter two never go on in a directory that is in use.
    """

    def __init__(self, flat: Mapping[str, Any], *, given: str | None, name: str, resume: str = "auto") -> None:
        self.flat = dict(flat)
        self.fingerprint = fingerprint(flat)
        self.explicit = given is not None
        self.claimed = False
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "run"
        self.path = Path(given) if given is not None else Path("runs") / f"{plain}-{self.fingerprint[:8]}"
        if resume == "never":
            first, number = self.path, 1
            while self.path.exists() and any(p.name != "status.json" for p in self.path.iterdir()):
                number += 1
                self.path = first.with_name(f"{first.name}-{number}")

    def exists(self) -> bool:
        """Whether a run was begun here."""
        return (self.path / "config.yaml").is_file()

    def status(self) -> dict[str, Any]:
        """What ``status.json`` says; empty if there is none."""
        try:
            return json.loads((self.path / "status.json").read_text())
        except (OSError, ValueError):
            return {}

    def environment(self) -> dict[str, Any]:
        """What ``environment.json`` says of the run that was begun here; empty if none was."""
        try:
            return json.loads((self.path / "environment.json").read_text())
        except (OSError, ValueError):
            return {}

    def check(self) -> None:
        """Make sure that the directory can be used, without touching it.

        Raises:
            UserError: it holds another run (the settings that differ are named) or other files, or cannot be written.
        """
        existing = self.path
        while not existing.exists() and existing != existing.parent:
            existing = existing.parent
        if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK) or _is_virtual(existing):
            raise UserError(f"{self._flag} {self.path}: cannot be written; {existing} does not allow it.")
        if not self.path.exists():
            return
        there = {path.name for path in self.path.iterdir()} - {"status.json"}
        if not self.exists():
            if there:
                raise UserError(
                    f"{self._flag} {self.path}: the directory holds other files ({', '.join(sorted(there)[:5])}) and "
                    "no run. Name a new or empty one."
                )
            return
        self._compare()

    def claim(self) -> None:
        """Make the directory this run's own: create it and write ``config.yaml``; it has passed :meth:`check`."""
        import yaml

        from textgen.reporting.jsonl import write_bytes

        try:
            self.path.mkdir(parents=True, exist_ok=True)
            # In ASCII: what PyYAML leaves as it is, it does not always read back as it was.
            text = yaml.safe_dump(self.flat | {self._setting: str(self.path)}, sort_keys=False)
            write_bytes(self.path / "config.yaml", text.encode())
        except OSError as error:
            raise UserError(f"{self._flag} {self.path}: cannot be written: {error.strerror}.") from None
        self.claimed = True

    def write_status(self, state: str, *, step: int = 0, exit_code: int | None = None, message: str = "") -> None:
        """Say in ``status.json`` how the run is doing."""
        from textgen.reporting.jsonl import write_json

        status = {"state": state, "exit_code": exit_code, "message": message, "step": step}
        write_json(self.path / "status.json", status | {"host": socket.gethostname(), "process_id": os.getpid()})

    def tracking_id(self) -> str:
        """An id for trackers: the same whenever this run goes on, another for every other run."""
        return hashlib.sha256(f"{self.path.resolve()}{self.fingerprint}".encode()).hexdigest()[:12]

    def fail(self, exit_code: int, message: str) -> None:
        """Leave word of a failure, unless that would be in a directory that is somebody else's or a finished run's."""
        state = self.status()
        if not self.claimed:
            if not self.explicit or state.get("state") == "done":
                return
            if self.path.exists() and any(path.name != "status.json" for path in self.path.iterdir()):
                return
        try:
            self.write_status("failed", step=state.get("step", 0), exit_code=exit_code, message=message)
        except OSError:
            return  # the message still goes to the terminal

    @property
    def _setting(self) -> str:
        return "output_dir" if "output_dir" in self.flat else "run_dir"

    @property
    def _flag(self) -> str:
        return "--" + self._setting.replace("_", "-")

    def _compare(self) -> None:
        import yaml

        try:
            theirs = yaml.safe_load((self.path / "config.yaml").read_text())
            assert isinstance(theirs, dict)
        except (yaml.YAMLError, UnicodeDecodeError, AssertionError):
            raise UserError(
                f"{self._flag} {self.path}: its config.yaml cannot be read. Name another directory."
            ) from None
        names = [n for n in {**self.flat, **theirs} if n not in WITHOUT_EFFECT and self.flat.get(n) != theirs.get(n)]
        if names:
            differences = ", ".join(f"{n} {theirs.get(n)} there and {self.flat.get(n)} here" for n in names[:6])
            raise UserError(
                f"{self._flag} {self.path}: holds a run of another configuration ({differences}). "
                f"Name another directory, or leave {self._flag} out to have one named for this configuration."
            )


def _is_virtual(path: Path) -> bool:
    # The superuser passes every permission check, also in /proc and /sys, where nothing can be created.
    return path.resolve().parts[:2] in (("/", "proc"), ("/", "sys"))


class _Recipe(Protocol):
    """A recipe's configuration."""

    def directory(self) -> RunDirectory: ...


C = TypeVar("C", bound=_Recipe)


def launch(config_class: type[C], main: Callable[[C, RunDirectory], None], *, description: str) -> None:
    """Parse the command line, run ``main``, and end the process as the exit codes promise.

    0 done, 1 a bug (with its traceback), 2 for the user to mend, 3 diverged. The same code and message go into the
    run directory's ``status.json``. Of many processes, the first one speaks.
    """
    directory = None
    try:
        preload_allocator(main.__code__.co_filename)
        config = parse(config_class, description=description.strip().split("\n\n")[0])
        directory = config.directory()
        main(config, directory)
    except (UserError, Diverged) as error:
        if os.environ.get("RANK", "0") == "0":
            print(f"error: {error}", file=sys.stderr, flush=True)
            if directory is not None:
                directory.fail(error.exit_code, str(error))
        else:  # a launcher ends all processes as soon as one has ended: the first one is to speak before that
            time.sleep(_TIME_TO_SPEAK)
        sys.stdout.flush()
        _leave(error.exit_code)
    except Exception as error:
        if directory is not None and directory.claimed:
            directory.fail(1, f"{type(error).__name__}: {error}")
        raise


def _leave(exit_code: int) -> None:
    import importlib

    if "torch.distributed" in sys.modules:
        distributed = importlib.import_module("torch.distributed")
        if distributed.is_available() and distributed.is_initialized():
            # The other processes may be waiting for this one; a clean shutdown would wait for them.
            sys.stderr.flush()
            os._exit(exit_code)
    sys.exit(exit_code)
