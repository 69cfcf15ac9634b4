"""Check that `accelerate launch` started the requested number of processes.

Some launches silently start fewer: `--cpu --num_processes 2` and a file with `distributed_type: MULTI_CPU` run one
process (they need MPI), and so does `--num_processes 2` alone if there is no GPU. The environment variables do not show
this; the launcher's own command line does.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import psutil
import yaml

from textgen.errors import UserError
from textgen.launch_environment import world_size


def check_launcher() -> None:
    """Check that `accelerate launch` started at least the requested number of processes; other launchers pass.

    Raises:
        UserError: there are fewer; the message contains a command that starts the requested number.
    """
    command = launching_command()
    if command is None:
        return
    options = command[: _script_index(command)]
    requested = requested_processes(options)
    if requested is not None and requested > world_size():
        script = " ".join(command[len(options) :])
        raise UserError(
            f"accelerate launch started {world_size()} of {requested} requested processes. On CPU, launch with: "
            f"accelerate launch --config_file launch/multi_cpu.yaml --num_processes {requested} {script}"
        )


def launching_command() -> list[str] | None:
    """The arguments of the `accelerate launch` command that started this process; None if another program did."""
    try:
        parent = psutil.Process().parent()
        words = parent.cmdline() if parent else []
    except psutil.Error:
        return None
    for i, word in enumerate(words[:4]):
        name = Path(word).name
        if name in ("accelerate", "accelerate.exe") and words[i + 1 : i + 2] == ["launch"]:
            return words[i + 2 :]
        if name in ("accelerate-launch", "accelerate.commands.launch") or word.endswith(
            "accelerate/commands/launch.py"
        ):
            return words[i + 1 :]
    return None


def requested_processes(options: Sequence[str]) -> int | None:
    """The number of processes on all machines that `accelerate launch` options or their file set; None if unset."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config_file", "--config-file")
    parser.add_argument("--num_processes", "--num-processes", type=int)
    try:
        given, _ = parser.parse_known_args(options)
    except SystemExit:  # an invalid value: Accelerate has already accepted these options, so do not reject them here
        return None
    return given.num_processes if given.num_processes is not None else _processes_in(given.config_file)


def _processes_in(config_file: str | None) -> int | None:
    if config_file is None:  # the default file, which `accelerate config` writes
        home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "huggingface")
        config_file = str(Path(home, "accelerate", "default_config.yaml"))
    try:
        loaded = yaml.safe_load(Path(config_file).expanduser().read_text(encoding="utf-8"))
    except (OSError, ValueError, RuntimeError, yaml.YAMLError):  # RuntimeError: no home directory, or nested too deeply
        return None
    number = loaded.get("num_processes") if isinstance(loaded, dict) else None
    return number if isinstance(number, int) else None


def _script_index(command: Sequence[str]) -> int:
    """Index of the script, which follows the launcher's own options."""
    for i, word in enumerate(command):
        if word.endswith(".py") or word in ("-m", "--module"):
            return i
    return len(command)
