"""recipes/finetune.py with faults, from the environment.

POISON="3 nan 1,5 inf 0": steps, factors of the loss, and processes. AT="3 rm -r run;report ls": steps, or later
work, and shell commands that the first process runs before it.
"""

import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

from textgen.background import finish_background_work
from textgen.model import loss
from textgen.reporting.run_log import RunLog
from textgen.training import step as step_module

FAULTS = [fault.split() for fault in os.environ.get("POISON", "").split(",") if fault]
COMMANDS = dict(command.split(" ", 1) for command in os.environ.get("AT", "").split(";") if command)
LATER = {"evaluation": "seal_model", "report": "finish"}  # work, and the method that comes before it, or does it
RANK = os.environ.get("RANK", "0")
now = 0
seed, forward = step_module.seed_everything, loss.ModelWithLoss.forward


def run_command(moment: str) -> None:
    if command := COMMANDS.pop(moment, None) if RANK == "0" else None:
        finish_background_work()  # otherwise it is a matter of time which checkpoint the command meets
        subprocess.run(command, shell=True, check=True)


def remember_step(*key: int) -> None:
    global now
    now = key[1]
    run_command(str(now))
    seed(*key)


def before(moment: str, name: str) -> None:
    method = getattr(RunLog, name)

    def replacement(self: Any, *arguments: Any) -> None:
        run_command(moment)
        method(self, *arguments)

    setattr(RunLog, name, replacement)


def poisoned(self: Any, *inputs: Any) -> Any:
    nll = forward(self, *inputs)
    for step, factor, rank in FAULTS:
        if self.training and (int(step), rank) == (now, RANK):
            nll = nll * float(factor)
    return nll


step_module.seed_everything = remember_step  # type: ignore[assignment]
loss.ModelWithLoss.forward = poisoned  # type: ignore[method-assign]
for moment, name in LATER.items():
    before(moment, name)
recipe = Path(__file__).parents[2] / "recipes" / "finetune.py"
sys.argv[0] = str(recipe)
runpy.run_path(str(recipe), run_name="__main__")
