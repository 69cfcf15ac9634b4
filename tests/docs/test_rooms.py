"""Who imports whom: no room knows one to its right, and parsing flags loads nothing heavy."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("data", "model", "training", "evaluation", "reporting")
FOUNDATION = {"textgen", "textgen.errors", "textgen.config", "textgen.device"}
ABOVE = {path.stem for path in (ROOT / "textgen").glob("*.py")} - {"__init__", "errors", "config", "device"}
MODULES = sorted((ROOT / "textgen").rglob("*.py"))


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and module of every import in a file, also within functions; a name taken from a package counts as one."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}, line {node.lineno}: a relative import, which these checks do not follow"
            yield node.lineno, node.module or ""
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def forbidden(room: str, module: str) -> bool:
    """Whether a module may not be imported in a room: it is of a room to the right, or stands above all rooms."""
    parts = module.split(".")
    if parts[0] != "textgen":
        return parts[0] in ("recipes", "tests")
    return len(parts) > 1 and parts[1] in (*ROOMS[ROOMS.index(room) + 1 :], *ABOVE)


def test_no_room_imports_one_to_its_right() -> None:
    seen = dict.fromkeys(ROOMS, 0)
    wrong = []
    for path in MODULES:
        room = path.relative_to(ROOT / "textgen").parts[0]
        if room not in ROOMS:
            continue
        seen[room] += 1
        wrong += [f"{path}:{line} {module}" for line, module in imports(path) if forbidden(room, module)]
    assert not wrong
    assert all(files >= 4 for files in seen.values()), seen
    assert sum(seen.values()) >= 35, seen


@pytest.mark.parametrize("module", ["errors", "config", "device"])
def test_what_all_rooms_stand_on_imports_no_room(module: str) -> None:
    found = [name for _, name in imports(ROOT / "textgen" / f"{module}.py") if name.startswith("textgen")]
    assert all(".".join(name.split(".")[:2]) in FOUNDATION for name in found), found


def test_the_rule_can_fail() -> None:
    assert forbidden("data", "textgen.model.loss")
    assert {"run", "plan"} <= ABOVE
    assert forbidden("reporting", "textgen.run.directory")
    assert not forbidden("reporting", "textgen.evaluation.measure_model")
    assert not forbidden("data", "textgen.errors")
    assert not forbidden("model", "torch.nn")


@pytest.mark.parametrize("recipe", ["finetune", "evaluate", "make_tokenizer"])
def test_flags_are_parsed_without_torch(recipe: str) -> None:
    heavy = {"torch", "transformers", "accelerate", "peft", "datasets", "wandb", "matplotlib"}
    program = f"import sys, recipes.{recipe}; print(*sorted({heavy!r} & sys.modules.keys()))"
    loaded = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []
