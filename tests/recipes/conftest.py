"""Running recipes, and a text to run them on."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from prefork import Ended, Prefork, Strike
from running import LIGHT, ROOT, WORDS


@pytest.fixture(scope="session")
def run_recipe(python: Prefork, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Ended]:
    """``run_recipe("finetune", "--steps", 3, processes=2, cwd=…)``."""
    home = tmp_path_factory.mktemp("home")

    def run(
        recipe: str,
        *flags: object,
        processes: int = 1,
        cwd: Path = home,
        check: bool = True,
        strike: Strike | None = None,
    ) -> Ended:
        environment = os.environ | {"TEXTGEN_CACHE": str(home / "cache"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        script = ROOT / "recipes" / f"{recipe}.py"
        ranks = processes if processes > 1 else None
        return python.run([script, *flags], processes=ranks, cwd=cwd, env=environment, check=check, strike=strike)

    return run


@pytest.fixture(scope="session")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of sixty different documents, of a few lines each."""
    path = tmp_path_factory.mktemp("data") / "texts.txt"
    documents = [
        " ".join(
            [f"Document {i} says that", *(WORDS[(i * 7 + j * (i % 5 + 1)) % len(WORDS)] for j in range(40 + i % 9))]
        )
        for i in range(60)
    ]
    path.write_text("\n\n".join(documents) + "\n")
    return path


@pytest.fixture(scope="session")
def plain(run_recipe, text_file, tmp_path_factory) -> Path:
    """The reference run for other ways to compute a step: one process, float32, default engine settings."""
    directory = tmp_path_factory.mktemp("plain") / "run"
    run_recipe("finetune", *LIGHT, "--data", text_file, "--run-dir", directory)
    return directory
