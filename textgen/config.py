"""Dataclasses ⇄ flags ⇄ YAML, with one precedence rule: defaults < YAML < flags.

A recipe's configuration is a dataclass whose fields are groups of settings: dataclasses such as ``TrainingConfig``. All
groups share one flat namespace, so ``--learning-rate`` on the command line, ``learning_rate:`` in a YAML file and
``config.training.learning_rate`` in the code are the same setting.
"""

import dataclasses
import difflib
import sys
import typing
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from textgen.errors import UserError

T = TypeVar("T")

_SWITCHES = {"--no-packing": "--packing=none"}


def settings(config: object) -> dict[str, Any]:
    """All settings as one flat dictionary, in the order of the groups: the contents of ``config.yaml``."""
    flat: dict[str, Any] = {}
    for group in dataclasses.fields(config):  # type: ignore[arg-type]
        for name, value in dataclasses.asdict(getattr(config, group.name)).items():
            assert name not in flat, f"two groups have a setting called {name}"
            flat[name] = value
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
    import tyro

    arguments = _spelled_out(list(sys.argv[1:] if argv is None else argv))
    if not {"-h", "--help"}.isdisjoint(arguments):
        _join_help_lines(config_class)
    path = _config_path(arguments)
    tokens = _yaml_tokens(config_class, Path(path)) if path else []
    return tyro.cli(
        config_class, args=[*tokens, *arguments], description=description, config=(tyro.conf.OmitArgPrefixes,)
    )


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


def _yaml_tokens(config_class: type, path: Path) -> list[str]:
    """The settings of a YAML file as command-line flags."""
    import yaml

    if not path.is_file():
        raise UserError(f"--config {path}: there is no such file. See recipes/configs/ for examples.")
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError) as error:  # ValueError: invalid UTF-8, or an impossible date
        raise UserError(f"--config {path}: not valid YAML: {error}") from None
    if loaded is None:
        return []
    if not isinstance(loaded, dict):
        raise UserError(f"--config {path}: expected lines of 'setting: value', found a {type(loaded).__name__}.")
    types = _setting_types(config_class)
    types.pop("config")
    problems, tokens = [], []
    for key, value in loaded.items():
        name = str(key).replace("-", "_")
        if name not in types:
            near = difflib.get_close_matches(name, types, n=1)
            hint = f"did you mean '{near[0]}'?" if near else "see --help for all settings."
            problems.append(f"--config {path}: unknown key '{key}'; {hint}")
        elif isinstance(value, dict):
            problems.append(f"--config {path}: '{key}' contains other settings, but settings are flat: one per line.")
        elif types[name] is bool:
            if not isinstance(value, bool):
                problems.append(f"--config {path}: '{key}: {value}' must be true or false.")
            else:
                tokens.append(flag(name) if value else flag("no_" + name))
        elif isinstance(value, bool) and name == "packing":  # as a switch, see _spelled_out
            tokens.append("--packing=joined" if value else "--packing=none")
        elif value is None and type(None) not in getattr(types[name], "__args__", ()):
            problems.append(f"--config {path}: '{key}' has no value. Set one or delete the line.")
        else:
            text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
            tokens.append(f"{flag(name)}={text}")
    if problems:
        raise UserError.of(problems)
    return tokens
