"""What changed of a run's inputs since a checkpoint was written: which files, by name.

``environment.json`` has the names, sizes and hashes of the files that a run read, under ``inputs``: "data", "tokenizer"
and "model", each file name → [size in bytes, a hash or another mark of its content].
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from textgen.errors import UserError
from textgen.files import read_json

_NAMED = 6  # files in a message
Files = Mapping[str, Any]


def recorded_inputs(checkpoint: Path) -> dict[str, Files]:
    """The inputs that are recorded with a checkpoint, or else in the run directory around it; empty if none are."""
    for place in (checkpoint, checkpoint.parent.parent):
        try:
            found = read_json(place / "environment.json").get("inputs")
        except UserError:
            continue
        if isinstance(found, dict):
            return {kind: files for kind, files in found.items() if isinstance(files, dict)}
    return {}


def changed_files(before: Files, now: Files) -> list[str]:
    """What is different about each file that changed, such as "plays.txt: 1,204 bytes then, 1,210 now"."""
    found = []
    for name in sorted({**before, **now}):
        shown = "".join(letter if letter.isprintable() else "\ufffd" for letter in name)
        if name not in now:
            found.append(f"{shown}: missing now")
        elif name not in before:
            found.append(f"{shown}: new")
        elif before[name] != now[name]:
            found.append(f"{shown}: {_difference(before[name], now[name])}")
    return found


def name_changes(checkpoint: Path, kinds: Sequence[str], inputs: Mapping[str, Files]) -> str:
    """The files of these kinds that changed since a checkpoint was written, in parentheses, for a message.

    Args:
        checkpoint: its directory.
        kinds: what is known to have changed: "data", "tokenizer", "model".
        inputs: the files that are read now.

    Returns:
        The text with a space before it; empty if no file is known to have changed.
    """
    before = recorded_inputs(checkpoint)
    found = [text for kind in kinds for text in changed_files(before.get(kind, {}), inputs.get(kind, {}))]
    if not before or not found:
        return ""
    more = f"; and {len(found) - _NAMED:,} more" if len(found) > _NAMED else ""
    return f" ({'; '.join(found[:_NAMED])}{more})"


def _difference(before: Any, now: Any) -> str:
    try:
        return "other content" if before[0] == now[0] else f"{before[0]:,} bytes then, {now[0]:,} now"
    except (TypeError, ValueError, IndexError, KeyError):  # a damaged record
        return "other content"
