"""Running a recipe as a process: parse the command line, call ``main``, exit with the documented code."""

import importlib
import os
import sys
import time
from collections.abc import Callable
from typing import Protocol, TypeVar

from textgen.config import parse
from textgen.errors import Diverged, UserError
from textgen.launch_environment import is_main_process
from textgen.run.allocator import preload_allocator
from textgen.run.directory import RunDirectory
from textgen.terminal import print_on_any_terminal

_HEAD_START = 5.0  # seconds that the main process gets to report an error before the others exit


class _RecipeConfig(Protocol):
    def directory(self) -> RunDirectory: ...


C = TypeVar("C", bound=_RecipeConfig)
S = TypeVar("S")


def run_recipe(config_class: type[C], main: Callable[[C, RunDirectory], None], *, description: str) -> None:
    """Parse the command line, call ``main(config, directory)``, and exit with the documented code.

    0: done. 1: a bug, with its traceback. 2: invalid input or configuration. 3: training diverged. The code and the
    message also go into the run directory's ``status.json``. With several processes, only the main one reports.

    Args:
        config_class: the recipe's configuration, a dataclass of groups of settings with a ``directory()`` method.
        main: the recipe.
        description: its first paragraph is shown by ``--help``; usually the recipe's docstring.
    """
    print_on_any_terminal()
    directory = None
    try:
        preload_allocator(main.__code__.co_filename)
        config = parse(config_class, description=_first_paragraph(description))
        directory = config.directory()
        main(config, directory)
    except (UserError, Diverged) as error:
        if is_main_process():
            print(f"error: {error}", file=sys.stderr, flush=True)
            if directory is not None:
                directory.record_failure(error.exit_code, str(error))
        else:  # a launcher kills all processes as soon as one has ended; the main one must report first
            time.sleep(_HEAD_START)
        sys.stdout.flush()
        _exit(error.exit_code)
    except Exception as error:
        if directory is not None and directory.created:
            directory.record_failure(1, f"{type(error).__name__}: {error}")
        raise


def run_script(config_class: type[S], main: Callable[[S], None], *, description: str) -> None:
    """Parse the command line and call ``main(config)``: as :func:`run_recipe`, for one process and no run directory.

    Args:
        config_class: the script's configuration, a dataclass of groups of settings.
        main: the script.
        description: its first paragraph is shown by ``--help``; usually the script's docstring.
    """
    print_on_any_terminal()
    try:
        main(parse(config_class, description=_first_paragraph(description)))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(error.exit_code)


def _first_paragraph(text: str) -> str:
    return text.strip().split("\n\n")[0]


def _exit(code: int) -> None:
    if "torch.distributed" in sys.modules:
        distributed = importlib.import_module("torch.distributed")
        if distributed.is_available() and distributed.is_initialized():
            # The other processes may be waiting for this one; a clean shutdown would wait for them.
            sys.stderr.flush()
            os._exit(code)
    sys.exit(code)
