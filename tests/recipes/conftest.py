"""Running a recipe as a user does: a process of its own, its exit code and what it left behind."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SENTENCE = "the loop reads each block once and the loss is summed over every token in it before anything is divided"
WORDS = SENTENCE.split()

# A run that takes seconds: a few short steps of the bundled model on a page of text.
QUICK = ["--block-size", "32", "--global-batch-size", "8", "--microbatch-size", "2", "--steps", "6", "--log-every", "1"]
QUICK += ["--evaluate-every", "3", "--checkpoint-every", "2", "--warmup-steps", "2", "--threads", "1", "--prompts", "2"]
QUICK += ["--prompt-tokens", "8", "--max-new-tokens", "8", "--wandb-mode", "disabled"]


@dataclass(frozen=True)
class Ran:
    """A recipe that has ended."""

    code: int
    out: str
    error: str


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="session")
def run_recipe(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Ran]:
    """``run_recipe("finetune", "--steps", 3, processes=2, cwd=…)``."""
    home = tmp_path_factory.mktemp("home")

    def run(recipe: str, *flags: object, processes: int = 1, cwd: Path = home, check: bool = True) -> Ran:
        environment = os.environ | {"TEXTGEN_CACHE": str(home / "cache"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        script = [str(ROOT / "recipes" / f"{recipe}.py"), *map(str, flags)]
        command = [sys.executable, *script]
        if processes > 1:
            torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
            command = [sys.executable, *torchrun, *script]
        ended = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600)
        if check:
            assert ended.returncode == 0, ended.stdout + ended.stderr
        return Ran(ended.returncode, ended.stdout, ended.stderr)

    return run


@pytest.fixture(scope="session")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty documents of a few lines each, no two the same."""
    path = tmp_path_factory.mktemp("data") / "texts.txt"
    documents = [
        " ".join(
            [f"Document {i} says that", *(WORDS[(i * 7 + j * (i % 5 + 1)) % len(WORDS)] for j in range(40 + i % 9))]
        )
        for i in range(60)
    ]
    path.write_text("\n\n".join(documents) + "\n")
    return path


def tree(directory: Path) -> dict[str, bytes]:
    """Every file below a directory, by name."""
    return {str(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


def same_numbers(one: Sequence[dict[str, Any]], other: Sequence[dict[str, Any]], relative: float) -> None:
    """Assert that two records have the same rows, numbers up to a relative difference."""
    assert [row.keys() for row in one] == [row.keys() for row in other]
    for a, b in zip(one, other, strict=True):
        for key in a:
            assert a[key] == pytest.approx(b[key], rel=relative), (a["step"], key)
