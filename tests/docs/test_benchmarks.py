"""Benchmarks run for minutes, so tests do not run them; these keep them in step with the code that they import."""

import ast
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted(path for path in (ROOT / "benchmarks").glob("*.py"))
DOCUMENTED = {
    command
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    for command in re.findall(r"python benchmarks/(\w+\.py)([^`\n]*)", path.read_text(encoding="utf-8"))
}


def imported_names(source: str) -> Iterator[tuple[str, str]]:
    """Module and name of everything that a script imports from textgen, wherever it does."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "textgen":
            yield from ((node.module or "", alias.name) for alias in node.names)


def is_there(module: str, name: str) -> bool:
    if hasattr(importlib.import_module(module), name):
        return True
    return importlib.util.find_spec(f"{module}.{name}") is not None


def test_benchmarks_import_what_is_there() -> None:
    names = {(path.name, *name) for path in SCRIPTS for name in imported_names(path.read_text(encoding="utf-8"))}
    assert len(SCRIPTS) > 12
    assert len(names) > 40
    assert [name for name in sorted(names) if not is_there(*name[1:])] == []


@pytest.mark.parametrize("script", sorted({script for script, _ in DOCUMENTED}))
def test_documented_benchmarks_take_the_flags_that_docs_give_them(script: str) -> None:
    help_text = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / script, "--help"], capture_output=True, text=True, check=True
    ).stdout
    flags = {flag for name, rest in DOCUMENTED if name == script for flag in re.findall(r"(?<=\s)--[\w-]+", rest)}
    assert {flag for flag in flags if flag not in help_text} == set()


def test_docs_name_enough_benchmarks() -> None:
    assert len({script for script, _ in DOCUMENTED}) >= 7
