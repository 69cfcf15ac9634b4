"""Completion in real shells."""

import shutil
import subprocess

import pytest

from textgen.commands.completion import options_of, script
from textgen.commands.table import COMMANDS


def complete(*words: str) -> list[str]:
    """What bash offers for the last word, in an empty directory."""
    line = " ".join(f"'{word}'" for word in words)
    program = f"{script('bash')}\nCOMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _textgen; "
    program += 'printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True, cwd="/")
    return done.stdout.split()


def test_commands_are_completed():
    assert complete("textgen", "") == [*COMMANDS]
    assert complete("textgen", "fine") == ["finetune"]


def test_flags_and_their_values_are_completed():
    assert complete("textgen", "finetune", "--learning") == ["--learning-rate"]
    assert complete("textgen", "finetune", "--method", "") == ["full", "lora", "qlora"]
    assert complete("textgen", "replay", "--wandb-mode", "off") == ["offline"]
    assert complete("textgen", "finetune", "--no-comp") == ["--no-compile"]
    assert complete("textgen", "doctor", "--only", "pyth") == ["python"]


def test_what_is_given_by_its_place_is_left_to_file_names():
    assert complete("textgen", "replay", "ru") == []
    assert "--run" not in dict(options_of("replay"))


def test_every_flag_of_every_command_is_known():
    for command in COMMANDS:
        assert "--help" in dict(options_of(command))
    assert {"--model", "--steps", "--strategies", "--run-dir"} <= dict(options_of("finetune")).keys()
    assert {"--baseline", "--output-dir"} <= dict(options_of("evaluate")).keys()


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_the_shell_accepts_the_script(shell):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    options = ["-f", "-n"] if shell == "zsh" else ["-n"]
    subprocess.run([shell, *options, "-c", script(shell)], check=True)
