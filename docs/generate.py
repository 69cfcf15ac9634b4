"""Write the pages of the documentation that are generated from the code: docs/code.md and docs/flags.md.

    python docs/generate.py

tests/docs/test_generated.py fails if a page is out of date.
"""

import ast
import dataclasses
import importlib
import inspect
import itertools
import sys
import typing
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
SCRIPTS = {
    "recipes/finetune.py": "recipes.finetune",
    "recipes/evaluate.py": "recipes.evaluate",
    "recipes/make_tokenizer.py": "recipes.make_tokenizer",
    "textgen doctor": "textgen.commands.doctor",
    "textgen replay": "textgen.commands.replay",
    "textgen dashboard": "textgen.commands.dashboard",
    "textgen completion": "textgen.commands.completion",
}
FOLDERS = ("recipes", "textgen", "launch", "benchmarks", "docs")


def code_page() -> str:
    """One line per file, from the first paragraph of its docstring or comment; and the docstring of each package."""
    lines = [
        "# The code, file by file",
        "",
        "Generated from module docstrings by `python docs/generate.py`. [design.md](design.md) says which package may",
        "import which, and why.",
    ]
    for folder in FOLDERS:
        for directory in [ROOT / folder, *sorted(p for p in (ROOT / folder).rglob("*") if p.is_dir())]:
            rows = [f"| [`{p.name}`](../{p.relative_to(ROOT)}) | {summary(p)} |" for p in described(directory)]
            if not rows:
                continue
            lines += ["", f"## `{directory.relative_to(ROOT)}/`", ""]
            package = directory / "__init__.py"
            if package.is_file() and (text := ast.get_docstring(ast.parse(package.read_text(encoding="utf-8")))):
                lines += [text.replace("``", "`"), ""]
            lines += ["| file | |", "| --- | --- |", *rows]
    return "\n".join(lines) + "\n"


def described(directory: Path) -> list[Path]:
    """The files of a directory that have a line of their own."""
    if "assets" in directory.parts:
        return []
    files = sorted(path for path in directory.iterdir() if path.is_file() and path.suffix in (".py", ".yaml", ".md"))
    return [path for path in files if path.name != "__init__.py"]


def summary(path: Path) -> str:
    """A file's first paragraph: of its docstring, its comment or its heading."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        text = ast.get_docstring(ast.parse(text)) or ""
    elif path.suffix == ".yaml":
        text = text.splitlines()[0].lstrip("# ").split(": accelerate launch")[0] + "."
    else:
        text = text.splitlines()[0].lstrip("# ") + "."
    paragraph = " ".join(text.split("\n\n")[0].split())
    assert paragraph, f"{path} does not say what it is"
    return paragraph.replace("``", "`").replace("|", "\\|")


def flags_page() -> str:
    """Every flag of every recipe and command, with its default and its help."""
    lines = [
        "# Flags",
        "",
        "Generated from the configuration classes by `python docs/generate.py`; `--help` prints the same.",
        "",
        "Every setting has one name: the flag `--learning-rate`, the YAML key `learning_rate` and the attribute",
        "`config.training.learning_rate` are the same setting. Later wins: defaults < YAML (`--config`) < flags.",
        "Unknown names are errors with a suggestion, and all invalid settings are reported at once. `--no-FLAG` turns",
        "a switch off.",
    ]
    shown: set[type] = set()
    for script, module in SCRIPTS.items():
        main = importlib.import_module(module).main
        hints = typing.get_type_hints(typing.get_type_hints(main)["config"])
        lines += ["", f"## `{script}`"]
        shared = [group for group, config in hints.items() if config in shown]
        if shared:
            lines += ["", f"Also the flags of {', '.join(shared)} above."]
        for group, config in hints.items():
            if config in shown:
                continue
            shown.add(config)
            lines += ["", f"### {group}", "", " ".join((inspect.getdoc(config) or "").split()), ""]
            lines += ["| flag | default | |", "| --- | --- | --- |", *(" | ".join(row) for row in rows_of(config))]
    return "\n".join(lines) + "\n"


def rows_of(config: type) -> Iterator[tuple[str, str, str]]:
    """Flag, default and help of each field."""
    hints, helps = typing.get_type_hints(config), field_docstrings(config)
    annotated = typing.get_type_hints(config, include_extras=True)
    for field in dataclasses.fields(config):
        choices = typing.get_args(hints[field.name]) if typing.get_origin(hints[field.name]) is typing.Literal else ()
        marks = getattr(annotated[field.name], "__metadata__", ())
        metavar = next((mark.metavar for mark in marks if hasattr(mark, "metavar")), None)
        flag = metavar or "--" + field.name.replace("_", "-")  # what has a name of its own is given by its place
        values = f" `{'`, `'.join(map(str, choices))}`." if choices else ""
        default = (
            "required"
            if field.default is dataclasses.MISSING
            else ""
            if field.default is None
            else f"`{field.default}`"
        )
        yield f"| `{flag}`", default, f"{helps[field.name]}{values} |".replace("<", "&lt;")


def field_docstrings(config: type) -> dict[str, str]:
    """The string below each field of a dataclass, which is its help."""
    (body,) = [node.body for node in ast.parse(inspect.getsource(config)).body if isinstance(node, ast.ClassDef)]
    found = {}
    for node, after in itertools.pairwise(body):
        if isinstance(node, ast.AnnAssign) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            assert isinstance(node.target, ast.Name)
            found[node.target.id] = " ".join(str(after.value.value).split())
    return found


PAGES = {"code.md": code_page, "flags.md": flags_page}


def main() -> None:
    for name, page in PAGES.items():
        (ROOT / "docs" / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
