"""Runs Python programs on a pseudo-terminal, and reads what a person would see there."""

import os
import pty
import re
import select
import subprocess
import sys
import time


def run_on_terminal(program: str, *, stdout: int | None = None, columns: int = 100, **environment: str) -> str:
    """What a terminal receives from a program, with its control sequences."""
    ours, theirs = pty.openpty()
    environment = {"TERM": "xterm-256color", "COLUMNS": str(columns)} | environment
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=theirs, stdout=stdout or theirs, stderr=theirs,
        env=os.environ | environment,
    )  # fmt: skip
    os.close(theirs)
    received, stop = b"", time.monotonic() + 60
    while time.monotonic() < stop:
        if select.select([ours], [], [], 0.1)[0]:
            try:
                part = os.read(ours, 1 << 16)
            except OSError:  # Linux's end of file, once the program has ended
                break
            if not part:
                break
            received += part
    os.close(ours)
    assert process.wait(timeout=10) == 0, received
    return received.decode()


def plain(received: str) -> str:
    """The text without control sequences."""
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", received)


def lines_left(received: str) -> list[str]:
    """The lines that a terminal shows in the end, as far as the control sequences that rich writes."""
    lines, row = [""], 0
    for token in re.findall(r"\x1b\[[0-9;?]*[a-zA-Z]|\r|\n|[^\x1b\r\n]+", received):
        if token == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif token == "\x1b[2K":
            lines[row] = ""
        elif token.endswith("A"):
            row -= int(token[2:-1] or 1)
        elif not token.startswith(("\x1b", "\r")):
            lines[row] += token
    return [line for line in lines if line]
