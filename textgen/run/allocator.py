"""Restart the process with a faster memory allocator: one that keeps freed memory for the next training step.

A step allocates and frees hundreds of arrays of several megabytes. glibc returns each of them to the system, which has
to zero new pages for the next one; configured to keep them, it fragments instead. tcmalloc and mimalloc do neither: a
step on a CPU takes 0.7 to 0.9 of the time and 0.1 to 0.3 GB more memory (docs/training.md). An allocator can only be
chosen when a process starts, so the process restarts itself.
"""

import ctypes
import os
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

from textgen.errors import UserError
from textgen.launch_environment import launcher_uses

VARIABLE = "TEXTGEN_ALLOCATOR"  # environment variable: "none" for the system's allocator, or the path of a library
_RESTARTED = "_TEXTGEN_RESTARTED"  # set in a process that was restarted
_GPUS = ("/dev/nvidiactl", "/dev/kfd")  # on a GPU, the large arrays are not in this memory

# Best first: system packages, which torch's own launcher for Xeons looks for too; then a package of PyPI.
_LIBRARIES = ("libtcmalloc_minimal.so*", "libtcmalloc.so*", "cmeel.prefix/lib/libmimalloc.so")

# mimalloc: keep freed memory forever, instead of returning it within milliseconds. tcmalloc keeps it by default; return
# what stays unused at the fastest rate.
_SETTINGS = {"MIMALLOC_PURGE_DELAY": "-1", "TCMALLOC_RELEASE_RATE": "10"}

# A function that only this allocator exports → its name.
_NAME_OF_FUNCTION = {"tc_version": "tcmalloc", "mi_version": "mimalloc", "mallctl": "jemalloc"}


def preload_allocator(script: str) -> None:
    """Restart this process from the beginning with the best allocator that is installed.

    Does nothing if no allocator is installed, on systems other than Linux, if there is a GPU to compute on, if the user
    preloads a library, in a process that was already restarted, and in one that was not started to run ``script``, such
    as a notebook or a test.

    Args:
        script: path of the Python file that this process is expected to run.

    Raises:
        UserError: the library that :data:`VARIABLE` names does not exist.
    """
    if os.environ.pop(_RESTARTED, None):
        os.environ.pop("LD_PRELOAD", None)  # child processes should not inherit it
        return
    if not any(word.endswith(".py") and Path(word).resolve() == Path(script).resolve() for word in sys.orig_argv):
        return
    if added := preload_variables(os.environ):
        sys.stdout.flush()
        sys.stderr.flush()
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | added | {_RESTARTED: "1"})


def preload_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Environment variables to add to start a process with the allocator; empty if none is to be used.

    Args:
        environment: the variables that the process would otherwise start with.

    Raises:
        UserError: the library that :data:`VARIABLE` names does not exist.
    """
    requested = environment.get(VARIABLE, "")
    if requested == "none" or sys.platform != "linux" or environment.get("LD_PRELOAD"):
        return {}
    if requested and not Path(requested).is_file():
        raise UserError(f"{VARIABLE} {requested}: there is no such file. Set it to the path of a library, or to none.")
    if not requested and not launcher_uses("CPU", environment) and any(Path(device).exists() for device in _GPUS):
        return {}
    library = Path(requested) if requested else _find_library()
    if library is None:
        return {}
    return {"LD_PRELOAD": str(library)} | {name: environment.get(name, value) for name, value in _SETTINGS.items()}


def _find_library() -> Path | None:
    prefixes = [Path(sys.prefix), Path("/usr"), Path("/usr/local")]
    directories = [Path(sysconfig.get_path("platlib")), *(prefix / "lib" for prefix in prefixes), Path("/usr/lib64")]
    directories.insert(1, Path("/usr/lib") / str(sysconfig.get_config_var("MULTIARCH")))
    for pattern in _LIBRARIES:
        for directory in directories:
            found = sorted(directory.glob(pattern))
            if found:
                return found[0]
    return None


def allocator() -> str:
    """Name of the memory allocator of this process: tcmalloc, mimalloc, jemalloc or system."""
    if sys.platform != "linux":
        return "system"
    symbols = ctypes.CDLL(None)  # of all libraries that this process has loaded
    return next((name for function, name in _NAME_OF_FUNCTION.items() if hasattr(symbols, function)), "system")
