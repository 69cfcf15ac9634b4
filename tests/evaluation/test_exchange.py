"""What processes exchange, in real ones: values of all, values for the main one, results and errors of the main one."""

import os
from pathlib import Path

import pytest
from accelerate import PartialState

from textgen.errors import UserError
from textgen.evaluation.exchange import all_gather, deliver, gather, on_main

PROGRAM = """
import os
import sys

from accelerate import Accelerator
from textgen.errors import UserError
from textgen.evaluation.exchange import all_gather, deliver, gather, on_main

accelerator = Accelerator(cpu=True)
rank = accelerator.process_index
assert all_gather(accelerator, [rank]) == [[0], [1]]
assert gather(accelerator, {"rank": rank}) == ([{"rank": 0}, {"rank": 1}] if rank == 0 else None)
assert deliver(accelerator, [f"{rank} to {other}" for other in (0, 1)]) == [f"0 to {rank}", f"1 to {rank}"]
assert on_main(accelerator, lambda: rank) == 0


def fail():
    assert rank == 0
    raise UserError("the message")


try:
    on_main(accelerator, fail)
except UserError as error:
    print(f"{rank}: {error}", flush=True)
accelerator.wait_for_everyone()
sys.stdout.flush()
os._exit(0)  # freeing the process group may deadlock
"""


def test_one_process_gets_its_own_values() -> None:
    alone = PartialState()
    assert all_gather(alone, "a") == gather(alone, "a") == deliver(alone, ["a"]) == ["a"]
    assert on_main(alone, lambda: 3) == 3
    with pytest.raises(UserError, match="the message"):
        on_main(alone, fail)


def fail() -> None:
    raise UserError("the message")


def test_two_processes(python, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    done = python.run(
        [tmp_path / "program.py"], processes=2, env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=120, check=True
    )
    assert sorted(done.out.splitlines()) == ["0: the message", "1: the message"]
