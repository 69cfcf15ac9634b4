"""What is printed: readable on every terminal, and without control characters or secrets."""

import codecs
import io
import sys
from collections.abc import Iterable
from typing import Any, TextIO

from textgen.printable import printable
from textgen.redaction import redact

_HANDLER = "textgen-ascii"
_SUBSTITUTES = {"−": "-", "–": "-", "—": "-", "…": "...", "·": "|", "×": "x", "±": "+/-", "→": "->"}
_SUBSTITUTES |= {"≤": "<=", "≥": ">="}


def print_on_any_terminal() -> None:
    """Let everything that this process prints go through :func:`shown`, whatever it is and wherever it comes from.

    Characters that the terminal's encoding lacks are written as similar ones, or as Python's escapes. By default they
    raise an error in the middle of a run, such as for the minus sign of a difference.
    """
    codecs.register_error(_HANDLER, _substitute)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_HANDLER)
        if stream is not None and not isinstance(stream, _Shown):
            setattr(sys, name, _Shown(stream, may_redraw=name == "stderr"))


def print_warnings_only() -> None:
    """From now on, of what goes to the standard output only lines that begin with "warning" are printed."""
    if not isinstance(sys.stdout, _WarningsOnly):
        sys.stdout = _WarningsOnly(sys.stdout)


def is_quiet() -> bool:
    """Whether :func:`print_warnings_only` was called, so that progress is not shown either."""
    return isinstance(sys.stdout, _WarningsOnly)


def shown(text: str) -> str:
    """Text as it may be printed or kept: without secrets, and with control characters as escapes."""
    return printable(redact(text))


def styled(stream: TextIO) -> TextIO:
    """The stream for a program that colors what it prints; any text in it must have gone through :func:`shown`."""
    return stream.stream if isinstance(stream, _Shown) else stream


class _Shown(io.TextIOBase):
    """A stream that writes text as :func:`shown`.

    Args:
        stream: where to write it.
        may_redraw: libraries' progress bars may begin with a carriage return, if the stream is a terminal.
    """

    def __init__(self, stream: TextIO, *, may_redraw: bool) -> None:
        self.stream = stream
        self._may_redraw = may_redraw and stream.isatty()

    def write(self, text: str) -> int:
        start = "\r" if self._may_redraw and text.startswith("\r") else ""
        self.stream.write(start + shown(text.removeprefix(start)))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:  # type: ignore[override]
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        self.stream.flush()

    def close(self) -> None:
        self.stream.flush()  # the stream itself belongs to the interpreter

    def isatty(self) -> bool:
        return self.stream.isatty()

    def fileno(self) -> int:
        return self.stream.fileno()

    def writable(self) -> bool:
        return True

    @property
    def encoding(self) -> Any:  # type: ignore[override]
        return self.stream.encoding

    @property
    def errors(self) -> Any:  # type: ignore[override]
        return self.stream.errors

    def __getattr__(self, name: str) -> Any:  # buffer, reconfigure, line_buffering, …
        return getattr(self.stream, name)


class _WarningsOnly(io.TextIOBase):
    """A stream that passes on the lines that begin with "warning", and nothing else."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self._line = ""

    def write(self, text: str) -> int:
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            if line.startswith("warning"):
                self.stream.write(f"{line}\n")
        return len(text)

    def flush(self) -> None:
        self.stream.flush()

    def isatty(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    @property
    def encoding(self) -> Any:  # type: ignore[override]
        return self.stream.encoding


def _substitute(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    return "".join(_SUBSTITUTES.get(c) or c.encode("ascii", "backslashreplace").decode() for c in missing), error.end
