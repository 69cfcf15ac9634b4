"""Dataclasses ⇄ flags ⇄ YAML, with one precedence rule: defaults < YAML < flags.

A recipe's configuration is a dataclass whose fields are the rooms' own dataclasses. Their fields together form one flat
name space, which is why ``--learning-rate`` on the command line, ``learning_rate:`` in a YAML file and
``config.training.learning_rate`` in the code are the same setting.
"""

import dataclasses
import difflib
import sys
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from textgen.errors import UserError

T = TypeVar("T")


def settings(config: object) -> dict[str, Any]:
    """Every setting in force as one flat dictionary, in the order of the rooms: what ``config.yaml`` holds."""
    flat: dict[str, Any] = {}
    for room in dataclasses.fields(config):  # type: ignore[arg-type]
        for name, value in dataclasses.asdict(getattr(config, room.name)).items():
            assert name not in flat, f"two rooms own a setting called {name}"
            flat[name] = value
    flat.pop("config", None)  # where settings came from is not one of them
    return flat


def parse(config_class: type[T], argv: Sequence[str] | None = None, *, description: str = "") -> T:
    """The configuration that a command line asks for, its ``--config`` file included.

    YAML settings become command-line tokens in front of the flags, so that types, later-wins and "perhaps you meant"
    come from one place.

    Raises:
        UserError: the YAML file is missing, is not a mapping, or has unknown keys (all of them are named).
        SystemExit: with code 2 for a flag that does not parse, 0 after ``--help``; tyro has printed why.
    """
    import tyro

    arguments = list(sys.argv[1:] if argv is None else argv)
    path = _config_path(arguments)
    tokens = _yaml_tokens(config_class, Path(path)) if path else []
    return tyro.cli(
        config_class, args=[*tokens, *arguments], description=description, config=(tyro.conf.OmitArgPrefixes,)
    )


def flag(name: str) -> str:
    """The command-line spelling of a setting: ``learning_rate`` → ``--learning-rate``."""
    return "--" + name.replace("_", "-")


def _config_path(arguments: Sequence[str]) -> str | None:
    path = None
    for i, argument in enumerate(arguments):
        if argument == "--config" and i + 1 < len(arguments):
            path = arguments[i + 1]
        elif argument.startswith("--config="):
            path = argument.removeprefix("--config=")
    return path


def _setting_types(config_class: type) -> dict[str, Any]:
    """Setting → annotated type, over all rooms."""
    types: dict[str, Any] = {}
    for room in typing.get_type_hints(config_class).values():
        types |= typing.get_type_hints(room)
    return types


def _yaml_tokens(config_class: type, path: Path) -> list[str]:
    import yaml

    if not path.is_file():
        raise UserError(f"--config {path}: there is no such file. Ready-made ones are in recipes/configs/.")
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError) as error:  # bytes that are not UTF-8, dates that are not in the calendar
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
            hint = f"did you mean '{near[0]}'?" if near else "see --help for the settings there are."
            problems.append(f"--config {path}: unknown key '{key}'; {hint}")
        elif isinstance(value, dict):
            problems.append(f"--config {path}: '{key}' has settings below it, but settings are flat: one a line.")
        elif types[name] is bool:
            if not isinstance(value, bool):
                problems.append(f"--config {path}: '{key}: {value}' should be true or false.")
            else:
                tokens.append(flag(name) if value else flag("no_" + name))
        elif value is None and type(None) not in getattr(types[name], "__args__", ()):
            problems.append(f"--config {path}: '{key}' has no value; give one or delete the line.")
        else:
            text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
            tokens.append(f"{flag(name)}={text}")
    if problems:
        raise UserError.of(problems)
    return tokens
