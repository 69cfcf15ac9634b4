"""Whether the launcher started what it was asked for.

Some of Accelerate's launches start fewer processes than they were asked for and say nothing: `--cpu --num_processes 2`
and a file with `distributed_type: MULTI_CPU` run one process (they want MPI), and so does `--num_processes 2` alone
where there is no GPU. Nothing in the environment tells. The launcher's own command line does.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import psutil
import yaml

from textgen.device import world_size
from textgen.errors import UserError


def check_launcher() -> None:
    """Compare the processes that `accelerate launch` was asked for with those there are; another launcher is trusted.

    Raises:
        UserError: there are fewer, with the command that starts as many as were asked for.
    """
    command = launching_command()
    if command is None:
        return
    options = command[: _script_at(command)]
    asked = requested_processes(options)
    if asked is not None and asked > world_size():
        script = " ".join(command[len(options) :])
        raise UserError(
            f"accelerate launch was asked for {asked} processes and started {world_size()}. On CPU, launch with: "
            f"accelerate launch --config_file launch/multi_cpu.yaml --num_processes {asked} {script}"
        )


def launching_command() -> list[str] | None:
    """What follows `accelerate launch` in the command that started this process, if that did."""
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
    """The processes, on all machines together, that options of `accelerate launch` and its file ask for, if they do."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config_file", "--config-file")
    parser.add_argument("--num_processes", "--num-processes", type=int)
    try:
        given, _ = parser.parse_known_args(options)
    except SystemExit:  # accelerate has read them before us; whatever this is, it is not ours to judge
        return None
    return given.num_processes if given.num_processes is not None else _processes_in(given.config_file)


def _processes_in(config_file: str | None) -> int | None:
    if config_file is None:  # the one that `accelerate config` writes
        home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "huggingface")
        config_file = str(Path(home, "accelerate", "default_config.yaml"))
    try:
        found = yaml.safe_load(Path(config_file).expanduser().read_text())
    except (OSError, ValueError, yaml.YAMLError):
        return None
    number = found.get("num_processes") if isinstance(found, dict) else None
    return number if isinstance(number, int) else None


def _script_at(command: Sequence[str]) -> int:
    """Where the script begins, after the launcher's own options."""
    for i, word in enumerate(command):
        if word.endswith(".py") or word in ("-m", "--module"):
            return i
    return len(command)
