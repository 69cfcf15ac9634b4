"""The ``textgen`` command, also as ``python -m textgen``."""

import os
import sys

from textgen.commands.table import run_command


def main() -> None:
    """Run the command that the command line names, and exit with its code."""
    try:
        sys.exit(run_command(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)  # as shells report a program that Ctrl-C ended
    except BrokenPipeError:  # what reads the output, such as head, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


if __name__ == "__main__":
    main()
