"""recipes/finetune.py with faulty numbers: POISON="3 nan 1,5 inf 0" are steps, factors of the loss, and processes."""

import os
import runpy
import sys
from pathlib import Path
from typing import Any

from textgen.model import loss
from textgen.training import step as step_module

FAULTS = [fault.split() for fault in os.environ["POISON"].split(",") if fault]
RANK = os.environ.get("RANK", "0")
now = 0
seed, forward = step_module.seed_everything, loss.ModelWithLoss.forward


def remember_step(*key: int) -> None:
    global now
    now = key[1]
    seed(*key)


def poisoned(self: Any, *inputs: Any) -> Any:
    nll = forward(self, *inputs)
    for step, factor, rank in FAULTS:
        if self.training and (int(step), rank) == (now, RANK):
            nll = nll * float(factor)
    return nll


step_module.seed_everything = remember_step  # type: ignore[assignment]
loss.ModelWithLoss.forward = poisoned  # type: ignore[method-assign]
recipe = Path(__file__).parents[2] / "recipes" / "finetune.py"
sys.argv[0] = str(recipe)
runpy.run_path(str(recipe), run_name="__main__")
