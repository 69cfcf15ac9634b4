"""Dataclasses ⇄ flags ⇄ YAML, with one precedence rule: defaults < YAML < flags.

A recipe's configuration is a dataclass whose fields are groups of settings: dataclasses such as ``TrainingConfig``. All
groups share one flat namespace, so ``--learning-rate`` on the command line, ``learning_rate:`` in a YAML file and
``config.training.learning_rate`` in the code are the same setting.
"""

import dataclasses
import os
import sys
import typing
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from textgen.config_file import read_settings
from textgen.errors import UserError
from textgen.printable import printable
from textgen.redaction import MASK, redact, redact_command
from textgen.terminal import styled

T = TypeVar("T")

MOST_THREADS = 4096  # of --threads: more than any machine has cores

_LARGEST = (1 << 63) - 1
_SWITCHES = {"--no-packing": "--packing=none"}


def settings(config: object) -> dict[str, Any]:
    """All settings as one flat dictionary, in the order of the groups: the contents of ``config.yaml``.

    They are kept in files and sent to trackers, so passwords and tokens in them are masked (:func:`redact`). A setting
    that had one must be given again with it: who resumes the run of a URL with a token gives a valid one.
    """
    flat: dict[str, Any] = {}
    for group in dataclasses.fields(config):  # type: ignore[arg-type]
        for name, value in dataclasses.asdict(getattr(config, group.name)).items():
            assert name not in flat, f"two groups have a setting called {name}"
            flat[name] = redact(as_utf8(value)) if isinstance(value, str) else value
    flat.pop("config", None)  # the file that settings came from is not a setting itself
    return flat


def parse(config_class: type[T], argv: Sequence[str] | None = None, *, description: str = "") -> T:
    """Parse a command line and its ``--config`` file.

    Settings in YAML are turned into flags placed before the given ones, so that type conversion, precedence and
    suggestions for misspelt names have a single implementation.

    Args:
        config_class: a dataclass of groups of settings.
        argv: the flags; those of this process by default.
        description: first paragraph of ``--help``.

    Raises:
        UserError: the YAML file is missing, is not a mapping, or has invalid settings (the message lists all of them).
        SystemExit: code 2 for an invalid flag, after tyro has printed the reason; code 0 after ``--help``.
    """
    arguments = _spelled_out(list(sys.argv[1:] if argv is None else argv))
    if not {"-h", "--help"}.isdisjoint(arguments):
        _join_help_lines(config_class)
    path = _config_path(arguments)
    if path:
        types = _setting_types(config_class)
        types.pop("config")
        arguments = [*(_argument(*one) for one in read_settings(Path(path), types)), *arguments]
    as_shown = [printable(argument) for argument in redact_command(arguments)]
    # tyro colors its messages, which quote arguments, and wraps them in the middle of a secret. So they are about the
    # arguments as they may be shown.
    with redirect_stdout(styled(sys.stdout)), redirect_stderr(styled(sys.stderr)):
        config = _parsed(config_class, as_shown, description)
    if as_shown != arguments:
        config = _parsed(config_class, arguments, description)
    _check_values(config)
    return config


def _check_values(config: object) -> None:
    """Refuse numbers that no library can store, and what was read back from where its secret had been masked."""
    problems = [
        f"{flag(name)} {value}: is out of range."
        for name, value in settings(config).items()
        if isinstance(value, int) and abs(value) > _LARGEST
    ]
    problems += [
        f"{flag(name)} {value}: the password or token in it was not kept, since files must not contain any. Give "
        f"{flag(name)} again, with the secret."
        for name, value in settings(config).items()
        if isinstance(value, str) and "://" in value and value == _given(config, name) and MASK in value
    ]
    if problems:
        raise UserError.of(problems)


def _given(config: object, name: str) -> Any:
    """The value of a setting, as it was given."""
    groups = (getattr(config, group.name) for group in dataclasses.fields(config))  # type: ignore[arg-type]
    return next(getattr(group, name) for group in groups if hasattr(group, name))


def _parsed(config_class: type[T], arguments: Sequence[str], description: str) -> T:
    import tyro

    return tyro.cli(config_class, args=arguments, description=description, config=(tyro.conf.OmitArgPrefixes,))


def as_utf8(text: str) -> str:
    """Text of a command line or a path as it would be on a machine whose file names are UTF-8.

    With another locale, such as C, Python gives every byte that is not ASCII as a surrogate, which no file can contain.
    """
    return os.fsencode(text).decode("utf-8", "surrogateescape")


def flag(name: str) -> str:
    """The command-line spelling of a setting: ``learning_rate`` → ``--learning-rate``."""
    return "--" + name.replace("_", "-")


def at_least(config: object, minimums: Mapping[str, float]) -> list[str]:
    """The settings of a group that are below their minimum, one message each, in the order of ``minimums``.

    A setting that is not a number, such as None or "auto", has no minimum.
    """
    values = {name: getattr(config, name) for name in minimums}
    return [
        f"{flag(name)} {value}: must be at least {minimums[name]}."
        for name, value in values.items()
        if isinstance(value, int | float) and value < minimums[name]
    ]


def at_most(config: object, maximums: Mapping[str, float]) -> list[str]:
    """The same for settings that are above their maximum."""
    values = {name: getattr(config, name) for name in maximums}
    return [
        f"{flag(name)} {value}: must be at most {maximums[name]}."
        for name, value in values.items()
        if isinstance(value, int | float) and value > maximums[name]
    ]


def _argument(name: str, value: str | None) -> str:
    return flag(name) if value is None else f"{flag(name)}={value}"


def _spelled_out(arguments: list[str]) -> list[str]:
    """``--packing`` and ``--no-packing`` as a switch, which it was before it had more values than two."""
    found = []
    for argument, following in pairwise([*arguments, "--"]):
        switched_on = argument == "--packing" and following.startswith("--")
        found.append("--packing=joined" if switched_on else _SWITCHES.get(argument, argument))
    return found


def _join_help_lines(config_class: type) -> None:
    """Make ``--help`` show docstrings of settings as paragraphs: tyro keeps line breaks before indented lines."""
    import docstring_parser

    for group in typing.get_type_hints(config_class).values():
        texts = {entry.arg_name: entry.description for entry in docstring_parser.parse_from_object(group).params}
        for field in dataclasses.fields(group):
            if text := texts.get(field.name):
                field.metadata = MappingProxyType({"help": " ".join(text.split())})


def _config_path(arguments: Sequence[str]) -> str | None:
    """The last ``--config`` on the command line."""
    path = None
    for i, argument in enumerate(arguments):
        if argument == "--config" and i + 1 < len(arguments):
            path = arguments[i + 1]
        elif argument.startswith("--config="):
            path = argument.removeprefix("--config=")
    return path


def _setting_types(config_class: type) -> dict[str, Any]:
    """Setting → annotated type, over all groups."""
    types: dict[str, Any] = {}
    for group in typing.get_type_hints(config_class).values():
        types |= typing.get_type_hints(group)
    return types
