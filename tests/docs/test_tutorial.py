"""The tutorial runs, the commands of all documentation pages parse, and their links and paths exist."""

import codeop
import contextlib
import io
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from recipe_modules import CONFIG_CLASSES

from textgen.config import parse

ROOT = Path(__file__).parents[2]
TUTORIAL = ROOT / "docs" / "tutorial.md"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])

FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!\w+:|#)([^)#\s]+)")
PATH = re.compile(r"`((?:textgen|recipes|tests|docs|launch)/[\w./-]*)`")


def fences(page: Path) -> list[tuple[str, str, int]]:
    """Language, content and first line number of every fenced block."""
    text = page.read_text(encoding="utf-8")
    return [(match[1], match[2], text.count("\n", 0, match.start()) + 2) for match in FENCE.finditer(text)]


def snippets() -> list[tuple[str, int, str | None]]:
    """Each Python block of the tutorial, its first line number, and its expected output if a text block follows."""
    blocks = fences(TUTORIAL)
    followers = [*blocks[1:], ("", "", 0)]
    return [
        (code, line, follower[1] if follower[0] == "text" else None)
        for (language, code, line), follower in zip(blocks, followers, strict=True)
        if language == "python"
    ]


def commands() -> list[tuple[str, str, list[str]]]:
    """Page, recipe and flags of each command in a bash block that runs a recipe."""
    found = []
    for page in PAGES:
        for language, content, _ in fences(page):
            if language != "bash":
                continue
            for line in content.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                for position, word in enumerate(words):
                    if word.startswith("recipes/") and word.endswith(".py"):
                        found.append((page.name, Path(word).stem, words[position + 1 :]))
                        break
    return found


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Restores the number of threads, which the tutorial sets."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_tutorial_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(ROOT)  # as in a session started there, so that the recipes can be imported
    monkeypatch.setenv("TEXTGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")  # the tutorial sets it too; monkeypatch restores it
    blocks = snippets()
    assert len(blocks) == 15
    assert sum(expected is not None for _, _, expected in blocks) == 9

    names: dict[str, Any] = {"__name__": "tutorial"}
    for code, line, expected in blocks:
        output = io.StringIO()
        # With blank lines in front, tracebacks have the line numbers of the page.
        program = compile("\n" * (line - 1) + code, str(TUTORIAL), "exec")
        with contextlib.redirect_stdout(output):
            exec(program, names)
        if expected is not None:
            assert output.getvalue() == expected, f"{TUTORIAL.name}, line {line}"

    assert names["losses"][-1] < names["losses"][0]
    assert len(names["history"]) == 6
    perplexity = names["perplexity"]
    assert perplexity["after"]["tokens"] == perplexity["before"]["tokens"] == names["metrics"]["tokens"] > 0
    difference = names["difference"]["bits_per_byte"]
    assert difference != 0, "training changed the model"
    low, high = names["difference"]["bits_per_byte_interval"]
    assert low <= difference <= high
    rows = {moment: [row["strategy"] for row in m.decoding] for moment, m in names["measurements"].items()}
    assert rows == {moment: ["greedy", "top_p", "human"] for moment in ("before", "after")}
    assert (tmp_path / "runs/tutorial/report/report.html").stat().st_size > 10_000
    reloaded, adapted, prompts = names["reloaded"].model, names["adapted"].model, names["prompts"]
    assert torch.equal(reloaded(prompts).logits, adapted(prompts).logits)
    assert {path.name for path in tmp_path.iterdir()} == {"runs", "cache"}, "the tutorial writes to runs/ only"


def test_tutorial_can_be_pasted_into_an_interactive_session() -> None:
    # The interactive prompt needs a blank line after every indented block, and none inside it.
    for code, line, _ in snippets():
        statement: list[str] = []
        for number, text in enumerate([*code.splitlines(), ""], start=line):
            statement.append(text)
            try:
                if codeop.compile_command("\n".join(statement), symbol="single") is not None:
                    statement = []
            except SyntaxError as error:
                pytest.fail(f"{TUTORIAL.name}, line {number}: {error}")
        assert not statement, f"{TUTORIAL.name}, line {line}: the block's last statement is incomplete"


def test_commands_on_all_pages_parse(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.chdir(ROOT)  # --config paths are relative to it
    shown = commands()
    assert sum(page == TUTORIAL.name for page, _, _ in shown) == 12
    for page, recipe, flags in shown:
        try:
            parse(CONFIG_CLASSES[recipe], flags)
        except SystemExit:
            pytest.fail(f"{page}: {recipe}.py {shlex.join(flags)}\n{capsys.readouterr()}")


def test_wrong_flag_in_a_command_is_detected(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        parse(CONFIG_CLASSES["finetune"], ["--learning-rat", "1"])
    assert "--learning-rate" in capsys.readouterr().err


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_paths_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    missing = [link for link in LINK.findall(text) if not (page.parent / link).exists()]
    missing += [path for path in PATH.findall(text) if not (ROOT / path).exists()]
    assert not missing


def test_links_and_paths_are_found() -> None:
    assert {"CHANGELOG.md", "CONTRIBUTING.md", "design.md", "log.md", "tutorial.md"} <= {page.name for page in PAGES}
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert len(LINK.findall(text)) >= 196
    assert len(PATH.findall(text)) >= 118
