"""Every text file that the project opens names its encoding: the default depends on the machine's locale."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("textgen", "recipes", "benchmarks", "docs")
FILES = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]


def without_encoding(source: str | bytes) -> Iterator[int]:
    """Lines of the calls that open a text file, and name no encoding."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or any(keyword.arg == "encoding" for keyword in node.keywords):
            continue
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        modes = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        is_binary = any("b" in mode for mode in modes if set(mode) <= set("rwxab+t"))
        is_descriptor = isinstance(node.func, ast.Attribute) and getattr(node.func.value, "id", "") == "os"
        if called in ("read_text", "write_text") or (called == "open" and not is_descriptor and not is_binary):
            yield node.lineno


def test_every_file_is_opened_with_an_encoding() -> None:
    assert len(FILES) > 150
    found = {str(path.relative_to(ROOT)): list(without_encoding(path.read_bytes())) for path in FILES}
    assert {name: lines for name, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("path.read_text()", True),
        ("path.write_text('b')", True),
        ("open(path)", True),
        ("path.open('w')", True),
        ("open(path, encoding='utf-8')", False),
        ("path.open('rb', buffering=0)", False),
        ("os.open(path, 1)", False),
        ("path.read_text(encoding='utf-8')", False),
    ],
)
def test_a_call_without_an_encoding_is_found(source: str, found: bool) -> None:
    assert bool(list(without_encoding(source))) == found
