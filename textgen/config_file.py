"""Settings in a YAML file."""

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from textgen.errors import UserError, collect_problems

_SHOWN = 200  # characters of a key or value in a message


def read_settings(path: Path, types: Mapping[str, Any]) -> list[tuple[str, str | None]]:
    """The settings of a YAML file, each with its value as it would be written after a flag.

    A boolean setting has no value, and ``no_`` before its name if it is false. The file can create nothing but plain
    values, and no alias in it is expanded: it is safe to read one that somebody else wrote.

    Args:
        path: the file of ``--config``.
        types: setting → annotated type, of all settings.

    Raises:
        UserError: the file is missing, is not a mapping, or has invalid settings (the message lists all of them).
    """
    loaded = _load(path)
    found: list[tuple[str, str | None]] = []
    problems: list[str] = []
    for key, value in loaded.items():
        name = _one_line(key).replace("-", "_")
        if name not in types:
            near = difflib.get_close_matches(name, types, n=1)
            hint = f"did you mean '{near[0]}'?" if near else "see --help for all settings."
            problems.append(f"--config {path}: unknown key '{_one_line(key)}'; {hint}")
            continue
        with collect_problems(problems):
            found.append(_setting(name, value, types[name], f"--config {path}: '{key}"))
    if problems:
        raise UserError.of(problems)
    return found


def _load(path: Path) -> dict[Any, Any]:
    import yaml

    try:
        if path.exists() and not path.is_file():
            raise UserError(f"--config {path}: this is not a file. See recipes/configs/ for examples.")
        if not path.is_file():
            raise UserError(f"--config {path}: there is no such file. See recipes/configs/ for examples.")
        text = path.read_text(encoding="utf-8")
        loaded = yaml.safe_load(text)
        twice = _keys_given_twice(yaml.compose(text, Loader=yaml.SafeLoader))
    except OSError as error:
        raise UserError(f"--config {path}: cannot be read: {error.strerror}.") from None
    except UserError:
        raise
    except RecursionError:
        raise UserError(f"--config {path}: not valid YAML: it is nested too deeply. Settings are flat.") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: invalid UTF-8, or an impossible date
        raise UserError(f"--config {path}: not valid YAML: {error}") from None
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise UserError(f"--config {path}: expected lines of 'setting: value', found a {type(loaded).__name__}.")
    if twice:
        places = [f"--config {path}: '{_one_line(key)}'" for key in twice]
        raise UserError.of([f"{place} is there twice. Leave out one of the two." for place in places])
    return loaded


def _keys_given_twice(node: Any) -> list[str]:
    """The keys that a mapping in YAML has more than once: the parser would silently take the last."""
    keys = [str(key.value) for key, _ in node.value] if node is not None and node.id == "mapping" else []
    return sorted({key for key in keys if keys.count(key) > 1})


def _setting(name: str, value: Any, kind: Any, start: str) -> tuple[str, str | None]:
    """A setting, and its value as it would be written after its flag.

    Args:
        name: the setting.
        value: its value in YAML.
        kind: its annotated type.
        start: of error messages: the file, and a quote with the name.

    Raises:
        UserError: the value cannot be one of this setting.
    """
    if isinstance(value, dict | set | bytes):
        raise UserError(f"{start}' contains other settings, but settings are flat: one per line.")
    if kind is bool:
        if not isinstance(value, bool):
            raise UserError(f"{start}: {_one_line(value)}' must be true or false.")
        return (name if value else f"no_{name}"), None
    if isinstance(value, bool) and name == "packing":  # as a switch, which it was before it had more values than two
        return name, "joined" if value else "none"
    if value is None and type(None) not in getattr(kind, "__args__", ()):
        raise UserError(f"{start}' has no value. Set one or delete the line.")
    parts = value if isinstance(value, list) else [value]
    if any(isinstance(part, list | tuple | dict | set | bytes) for part in parts):
        raise UserError(f"{start}' is a list of lists or of settings. List plain values.")
    return name, _text(parts, start)


def _text(parts: list[Any], start: str) -> str:
    try:
        text = ",".join(map(str, parts))
        as_argument = os.fsdecode(text.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        raise UserError(f"{start}' contains half of a character (a lone surrogate). Correct it.") from None
    except ValueError:
        raise UserError(f"{start}' is a number that is too long. Correct it.") from None
    if "\0" in text:
        raise UserError(f"{start}' contains the character NUL, which no name can have. Remove it.")
    return as_argument


def _one_line(value: object) -> str:
    """A key or value of a YAML file, for a message: long ones are cut, and an integer of any length has a text."""
    try:
        text = " ".join(str(value).split())
    except ValueError:
        text = "a very long number"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
