"""The generated pages of the documentation are up to date, and complete."""

import dataclasses
import runpy
import typing
from pathlib import Path

import pytest
from recipe_modules import CONFIG_CLASSES

from textgen.commands.completion import ShellConfig
from textgen.commands.dashboard import ViewConfig
from textgen.commands.doctor import CheckupConfig
from textgen.commands.replay import UploadConfig

ROOT = Path(__file__).parents[2]
GENERATE = runpy.run_path(str(ROOT / "docs/generate.py"))


@pytest.mark.parametrize("name", GENERATE["PAGES"])
def test_a_generated_page_is_what_the_code_says(name: str) -> None:
    fresh = GENERATE["PAGES"][name]()
    assert (ROOT / "docs" / name).read_text() == fresh, "run: python docs/generate.py"


def test_the_code_page_has_a_line_for_every_file() -> None:
    page = (ROOT / "docs/code.md").read_text()
    folders = ("textgen", "recipes", "launch", "benchmarks")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".yaml")]
    files = [path for path in files if path.name != "__init__.py" and "assets" not in path.parts]
    assert len(files) >= 138
    missing = [str(path.relative_to(ROOT)) for path in files if f"(../{path.relative_to(ROOT)})" not in page]
    assert not missing


def test_the_flags_page_has_every_flag_with_its_help() -> None:
    page = (ROOT / "docs/flags.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith(("| `--", "| `RUN`", "| `SHELL`"))]
    groups = {group for config in CONFIG_CLASSES.values() for group in typing.get_type_hints(config).values()}
    groups |= {CheckupConfig, ShellConfig, UploadConfig, ViewConfig}
    assert len(rows) == sum(len(dataclasses.fields(group)) for group in groups)
    assert all(len(row.split(" | ")[2].strip(" |")) > 10 for row in rows), "a flag without a help text"
