"""Printing on terminals that do not understand UTF-8."""

import codecs
import io
import sys

_HANDLER = "textgen-ascii"
_SUBSTITUTES = {"−": "-", "–": "-", "—": "-", "…": "...", "·": "|", "×": "x", "±": "+/-", "→": "->"}
_SUBSTITUTES |= {"≤": "<=", "≥": ">="}


def print_on_any_terminal() -> None:
    """Let ``print`` write characters that the terminal's encoding lacks as similar ones, or as Python's escapes.

    By default it raises an error in the middle of a run, such as for the minus sign of a difference.
    """
    codecs.register_error(_HANDLER, _substitute)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_HANDLER)


def _substitute(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    return "".join(_SUBSTITUTES.get(c) or c.encode("ascii", "backslashreplace").decode() for c in missing), error.end
