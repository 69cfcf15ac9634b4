"""The table of commands, and running one of them by its name."""

import difflib
import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from textgen import __version__
from textgen.errors import UserError


@dataclass(frozen=True)
class Command:
    """A command.

    Attributes:
        module: where it is, imported when the command runs; its ``run()`` parses the command line and does the work.
        summary: one line for the list of commands.
    """

    module: str
    summary: str


COMMANDS = {
    "finetune": Command("textgen.commands.recipe", "run recipes/finetune.py on what this machine has"),
    "evaluate": Command("textgen.commands.recipe", "run recipes/evaluate.py on what this machine has"),
    "doctor": Command("textgen.commands.doctor", "check that this machine is ready, and say how to mend what is not"),
    "dashboard": Command(
        "textgen.commands.dashboard", "make a Weights & Biases workspace, or a report on a run or two"
    ),
    "replay": Command("textgen.commands.replay", "send the record of a run to Weights & Biases or another tracker"),
    "completion": Command("textgen.commands.completion", "print what lets bash or zsh complete this command"),
}


def usage() -> str:
    """What ``textgen --help`` prints."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: textgen COMMAND [--help] ...",
            "",
            *lines,
            "",
            "The recipes also run as in `accelerate launch recipes/finetune.py`, with any launch file.",
        ]
    )


def find_command(name: str) -> Command:
    """The command of a name.

    Raises:
        UserError: there is none; the message suggests one.
    """
    if name in COMMANDS:
        return COMMANDS[name]
    near = difflib.get_close_matches(name, COMMANDS, n=1)
    hint = f"Did you mean `textgen {near[0]}`?" if near else f"There are: {', '.join(COMMANDS)}."
    raise UserError(f"textgen {name}: there is no such command. {hint}")


def run_command(arguments: Sequence[str]) -> int:
    """Run a command, and return the exit code; commands that end otherwise raise ``SystemExit``.

    Args:
        arguments: the command's name and its flags, as after ``textgen``.
    """
    name = arguments[0] if arguments else ""
    if name in ("-h", "--help"):
        print(usage())
        return 0
    if name == "--version":
        print(__version__)
        return 0
    if not name:
        print(usage(), file=sys.stderr)
        return 2
    try:
        command = find_command(name)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    sys.argv = [f"textgen {name}", *arguments[1:]]
    importlib.import_module(command.module).run()
    return 0
