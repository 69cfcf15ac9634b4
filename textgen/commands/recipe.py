"""Run a recipe by its name, on what this machine has.

`textgen finetune` runs recipes/finetune.py, and `textgen evaluate` runs recipes/evaluate.py: in one process without a
GPU or with one GPU, and with several in one process a GPU. The command that it stands for is printed first. Options of
`accelerate launch`, such as another launch file, need that command.
"""

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from textgen.errors import UserError
from textgen.terminal import print_on_any_terminal

_CLONE = Path(__file__).parents[2]
_DEVICES = Path("/dev")


def recipe_path(name: str) -> Path:
    """The file of a recipe.

    Raises:
        UserError: the package was installed without the repository that has the recipes.
    """
    path = _CLONE / "recipes" / f"{name}.py"
    if not path.is_file():
        raise UserError(
            f"textgen {name}: {path} is not there: recipes are in the repository, not in the installed package. Clone "
            "it, and install it with pip install -e ."
        )
    return path


def visible_gpus(devices: Path = _DEVICES, environment: Mapping[str, str] = os.environ) -> int:
    """The number of NVIDIA GPUs that a program may use: device files of the driver, or fewer by CUDA_VISIBLE_DEVICES.

    torch would know too, but takes seconds to import.
    """
    present = sum(path.name.removeprefix("nvidia").isdecimal() for path in devices.glob("nvidia*"))
    chosen = environment.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return present
    named = [word for word in chosen.split(",") if word.strip() and word.strip() != "-1"]
    return min(present, len(named))


def launch_command(recipe: Path, flags: Sequence[str], gpus: int) -> list[str]:
    """The command that runs a recipe on a number of GPUs; on one or none, without a launcher."""
    if gpus < 2:
        return [sys.executable, str(recipe), *flags]
    options = ["--config_file", str(_CLONE / "launch" / "multi_gpu.yaml"), "--num_processes", str(gpus)]
    return [sys.executable, "-m", "accelerate.commands.launch", *options, str(recipe), *flags]


def run() -> None:
    """Become the process of the recipe that the command line names."""
    print_on_any_terminal()
    name, flags = sys.argv[0].split()[-1], sys.argv[1:]
    try:
        recipe = recipe_path(name)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    asks = not {"-h", "--help"}.isdisjoint(flags)
    command = launch_command(recipe, flags, 0 if asks else visible_gpus())
    if not asks:
        print(f"+ {shlex.join(command)}", file=sys.stderr, flush=True)
    os.execv(command[0], command)
