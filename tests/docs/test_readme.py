"""Every recipe command of the README passes a dry run, with local data and models in place of its own.

The README and the changelog agree with the table of decoding strategies.
"""

import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest

from textgen.evaluation.decoding.strategies import STRATEGIES

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()

# Name in the README → what this test uses in its place.
STAND_INS = {"gpt2": "tiny-gpt2", "my-texts/": "my-texts", "tinyshakespeare.txt": "my-texts/one.txt"}
STAND_INS |= {"runs/my-run/model": "tiny-gpt2", "my-gpt2": "made"}


def commands() -> list[list[str]]:
    """The recipe commands in code blocks and tables, each once."""
    quoted = re.findall(r"`((?:accelerate|python) [^`\n]*recipes/\w+\.py[^`\n]*)`", README)
    blocks = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if re.search(r"recipes/\w+\.py", line)]
    return [shlex.split(line) for line in dict.fromkeys(quoted + lines) if "--help" not in line]


def test_every_command_is_tested() -> None:
    assert len(commands()) == 22


@pytest.mark.parametrize("command", commands(), ids=lambda command: " ".join(command)[-60:])
def test_a_command_passes_every_check(command: list[str], tmp_path: Path, monkeypatch, capsys) -> None:
    (tmp_path / "my-texts").mkdir()
    text = "\n\n".join(f"Text {i}. " + "The same words, over and over again. " * 20 for i in range(60))
    (tmp_path / "my-texts/one.txt").write_text(text)
    script = next(part for part in command if part.startswith("recipes/"))
    launcher, flags = command[: command.index(script)], command[command.index(script) + 1 :]
    if "--config_file" in launcher:
        assert (ROOT / launcher[launcher.index("--config_file") + 1]).is_file()
    flags = [STAND_INS.get(flag, flag) for flag in flags]
    flags = [str(ROOT / flag) if flag.startswith("recipes/") else flag for flag in flags]
    if script != "recipes/make_tokenizer.py" and "--dry-run" not in flags:
        flags.append("--dry-run")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [script, *flags])
    runpy.run_path(str(ROOT / script), run_name="__main__")
    said = capsys.readouterr().out
    assert "nothing was written" in said or "wrote made" in said
    assert not (tmp_path / "runs").exists()


def test_the_python_example_runs(monkeypatch, capsys) -> None:
    [code] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    monkeypatch.chdir(ROOT)
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out == "torch.Size([8])\n"


def test_the_readme_lists_every_strategy() -> None:
    [listed] = re.findall(r"`--strategies all`, or any of (.*?);", README, re.DOTALL)
    assert re.findall(r"`(\w+)`", listed) == list(STRATEGIES)


def test_the_changelog_counts_every_strategy() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert re.findall(r"(\d+) decoding strategies", changelog) == [str(len(STRATEGIES))]
