"""The ``textgen`` command: its list, and errors in the name of a command."""

import importlib
import re
import subprocess
import sys
import time

import pytest

import textgen
from textgen.commands import table
from textgen.commands.table import COMMANDS, run_command, usage
from textgen.errors import UserError


def test_the_list_has_every_command_with_a_line(capsys):
    assert run_command(["--help"]) == 0
    printed = capsys.readouterr().out
    assert printed == usage() + "\n"
    for name, command in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(command.summary)}$", printed, re.MULTILINE)


OWN = [name for name, command in COMMANDS.items() if command.module != "textgen.commands.recipe"]


@pytest.mark.parametrize("name", OWN)
def test_every_command_is_where_the_table_says_and_has_help(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["textgen"])
    assert callable(importlib.import_module(COMMANDS[name].module).run)
    with pytest.raises(SystemExit) as ended:
        run_command([name, "--help"])
    assert ended.value.code == 0
    assert f"usage: textgen {name} " in capsys.readouterr().out


def test_a_misspelt_command_is_an_error_with_a_suggestion(capsys):
    assert run_command(["repaly", "x"]) == 2
    assert capsys.readouterr().err == (
        "error: textgen repaly: there is no such command. Did you mean `textgen replay`?\n"
    )
    with pytest.raises(UserError, match=f"There are: {', '.join(COMMANDS)}"):
        table.find_command("qqq")


def test_without_a_command_the_list_goes_to_standard_error(capsys):
    assert run_command([]) == 2
    assert capsys.readouterr() == ("", usage() + "\n")


def test_the_version_is_that_of_the_package(capsys):
    assert run_command(["--version"]) == 0
    assert capsys.readouterr().out.strip() == textgen.__version__


def test_the_list_is_printed_without_torch():
    program = "import sys\nfrom textgen.commands.table import run_command\nrun_command(['-h'])\n"
    heavy = {"torch", "transformers", "wandb", "tyro", "numpy"}
    program += f"print(*{heavy!r} & sys.modules.keys())"
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == ""
    assert time.monotonic() - start < 5


def test_a_reader_that_has_enough_is_no_error():
    command = f"set -o pipefail; {sys.executable} -m textgen completion bash | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode in (0, 141), done.stderr) == (True, "")
