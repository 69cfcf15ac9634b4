"""Running a recipe as a process: parse the command line, call ``main``, exit with the documented code."""

import os
import sys
from collections.abc import Callable
from typing import Protocol, TypeVar

from textgen import __version__
from textgen.config import parse
from textgen.disk import disk_errors
from textgen.errors import Diverged, Preempted, UserError
from textgen.launch_environment import is_main_process
from textgen.run.allocator import preload_allocator
from textgen.run.directory import RunDirectory
from textgen.run.ending import start_ending
from textgen.terminal import print_on_any_terminal, print_warnings_only


class _RecipeConfig(Protocol):
    def directory(self) -> RunDirectory: ...


C = TypeVar("C", bound=_RecipeConfig)
S = TypeVar("S")


def run_recipe(config_class: type[C], main: Callable[[C, RunDirectory], None], *, description: str) -> None:
    """Parse the command line, call ``main(config, directory)``, and exit with the documented code.

    0: done. 1: a bug, with its traceback, or a process that died. 2: invalid input or configuration. 3: training
    diverged. 75: stopped by a signal; the same command goes on. The code and the message also go into the run
    directory's ``status.json``. With several processes, only the main one reports.

    Args:
        config_class: the recipe's configuration, a dataclass of groups of settings with a ``directory()`` method.
        main: the recipe.
        description: its first paragraph is shown by ``--help``; usually the recipe's docstring.
    """
    print_on_any_terminal()
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # or a process that ends shows how its connections break
    os.environ["MPLBACKEND"] = "agg"  # figures go to files; a notebook's backend may not even be there
    ending = start_ending()
    try:
        preload_allocator(main.__code__.co_filename)
        ending.listen()
        config = parse(config_class, description=_first_paragraph(description))
        ending.directory = directory = config.directory()
        if directory.settings.get("quiet"):
            print_warnings_only()
        if is_main_process():
            print(f"textgen {__version__}, into {directory.path}: loading libraries …", flush=True)
        with disk_errors(lambda: directory.path if directory.created else None):
            main(config, directory)
    except (UserError, Diverged) as error:
        ending.user_error(error)
    except Preempted as error:
        ending.preempted(error)
    except Exception as error:
        ending.bug(error)
    ending.done()


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
