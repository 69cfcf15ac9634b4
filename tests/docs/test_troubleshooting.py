"""Every message that docs/troubleshooting.md quotes is one that the code prints, word for word."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `(.+?)`.* \| .+ \|$", PAGE, re.MULTILINE)

# What stands in the quoted messages for values that the code fills in, besides numbers and the dots of an omission.
EXAMPLES = (
    "step-00000100",
    "2 processes",
    "title, body",
    "the model's context",
    "--run-dir",
    "70 MB",
    "30 MB",
    "run: ",
    "data.txt",
    "data",
    "nan",
)
VALUE = re.compile(
    "|".join([*map(re.escape, EXAMPLES), r"(?<=--text-column )text", r"…", r"\b0x\w+", r"(?<![\w-])\d+"])
)


def templates() -> Iterator[str]:
    """Every string of the code; in an f-string, a NUL stands for each value."""
    for folder in ("textgen", "recipes"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            nodes = list(ast.walk(ast.parse(path.read_bytes())))
            f_strings = [node.values for node in nodes if isinstance(node, ast.JoinedStr)]
            in_f_strings = {id(part) for parts in f_strings for part in parts}
            for parts in f_strings:
                yield "".join(str(part.value) if isinstance(part, ast.Constant) else "\0" for part in parts)
            for node in nodes:
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in in_f_strings:
                    yield node.value


def literal_text(message: str) -> list[str]:
    """The parts of a quoted message between its values."""
    return [part for part in VALUE.split(message) if part.strip(" .:,()")]


def prints(template: str, message: str) -> bool:
    """Whether a template has all literal text of a message, in order, with values in between."""
    return re.search(".*\0.*".join(map(re.escape, literal_text(message))), template, re.DOTALL) is not None


TEMPLATES = list(dict.fromkeys(templates()))


def test_every_row_is_checked() -> None:
    assert len(ROWS) == 40
    assert PAGE.count("\n| `") == len(ROWS), "a row without a quoted message"
    assert len(TEMPLATES) > 1500


@pytest.mark.parametrize("message", ROWS)
def test_a_quoted_message_is_in_the_code(message: str) -> None:
    assert sum(len(part.split()) for part in literal_text(message)) >= 2, "too little literal text to look for"
    assert any(prints(template, message) for template in TEMPLATES), "reworded in the code?"


@pytest.mark.parametrize("message", ROWS)
def test_a_reworded_message_is_noticed(message: str) -> None:
    """Every word counts: with another in its place, the code has no such message."""
    for word in {word for part in literal_text(message) for word in re.findall(r"[\w-]+", part)}:
        reworded = [re.sub(rf"\b{re.escape(word.strip('-'))}\b", "REWORDED", text) for text in TEMPLATES]
        assert not any(prints(text, message) for text in reworded), word
