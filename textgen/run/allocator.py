"""A memory allocator that keeps what a training step frees, for the next step to use.

A step makes and frees arrays of megabytes by the hundred. glibc gives each back to the system, which hands out fresh
pages, filled with zeros, for the next one; told to keep them, it keeps the holes between them too. tcmalloc and
mimalloc do neither: a step on a CPU takes 0.85 to 0.9 of the time for 0 to 0.3 GB more (docs/training.md has the
figures). An allocator can only be put in place when a process starts, so the process starts itself again.
"""

import ctypes
import os
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

from textgen.device import launcher_uses
from textgen.errors import UserError

VARIABLE = "TEXTGEN_ALLOCATOR"  # "none" leaves the system's own, a path is taken instead of what is looked for
_STARTED_AGAIN = "_TEXTGEN_STARTED_AGAIN"
_GPUS = ("/dev/nvidiactl", "/dev/kfd")  # there, the arrays that matter are not in this memory

# Best first: the system's, which torch's own launcher for Xeons looks for too; then that of the extra "allocator".
_LIBRARIES = ("libtcmalloc_minimal.so*", "libtcmalloc.so*", "cmeel.prefix/lib/libmimalloc.so")

# Keep what is freed (mimalloc: for ever; else it is given back within milliseconds), but for what long lies idle.
_SETTINGS = {"MIMALLOC_PURGE_DELAY": "-1", "TCMALLOC_RELEASE_RATE": "10"}

# A function that only this allocator has → its name.
_KNOWN_BY = {"tc_version": "tcmalloc", "mi_version": "mimalloc", "mallctl": "jemalloc"}


def preload_allocator(script: str) -> None:
    """Start this process again, from its beginning, with the best allocator that is installed; if there is one.

    Nothing happens off Linux, beside a GPU that may be used, where the user preloads something, in a process started
    again, and in one that was not started to run ``script``: a notebook, or a test.

    Raises:
        UserError: the library that :data:`VARIABLE` names does not exist.
    """
    if os.environ.pop(_STARTED_AGAIN, None):
        os.environ.pop("LD_PRELOAD", None)  # what this process starts may do as it likes
        return
    if not any(word.endswith(".py") and Path(word).resolve() == Path(script).resolve() for word in sys.orig_argv):
        return
    if added := preloading(os.environ):
        sys.stdout.flush()
        sys.stderr.flush()
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | added | {_STARTED_AGAIN: "1"})


def preloading(environment: Mapping[str, str]) -> dict[str, str]:
    """What to add to the environment of a process that is to start with the allocator; empty if there is none."""
    asked = environment.get(VARIABLE, "")
    if asked == "none" or sys.platform != "linux" or environment.get("LD_PRELOAD"):
        return {}
    if asked and not Path(asked).is_file():
        raise UserError(f"{VARIABLE} {asked}: there is no such file; give the path of a library, or none.")
    if not asked and not launcher_uses("CPU", environment) and any(Path(device).exists() for device in _GPUS):
        return {}
    library = Path(asked) if asked else _find()
    if library is None:
        return {}
    return {"LD_PRELOAD": str(library)} | {name: environment.get(name, value) for name, value in _SETTINGS.items()}


def _find() -> Path | None:
    prefixes = [Path(sys.prefix), Path("/usr"), Path("/usr/local")]
    places = [Path(sysconfig.get_path("platlib")), *(prefix / "lib" for prefix in prefixes), Path("/usr/lib64")]
    places.insert(1, Path("/usr/lib") / str(sysconfig.get_config_var("MULTIARCH")))
    for pattern in _LIBRARIES:
        for place in places:
            found = sorted(place.glob(pattern))
            if found:
                return found[0]
    return None


def allocator() -> str:
    """Whose memory this process uses: tcmalloc, mimalloc, jemalloc, or that of the system."""
    if sys.platform != "linux":
        return "system"
    everything = ctypes.CDLL(None)
    return next((name for function, name in _KNOWN_BY.items() if hasattr(everything, function)), "system")
