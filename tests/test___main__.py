"""``textgen`` and ``python -m textgen``."""

import configparser
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from textgen import __main__ as program

ROOT = Path(__file__).parents[1]


def test_python_m_runs_the_command_and_exits_with_its_code():
    done = subprocess.run([sys.executable, "-m", "textgen", "repaly"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Did you mean `textgen replay`?" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_console_script_is_the_same_program():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    name, place = setup["options.entry_points"]["console_scripts"].strip().split(" = ")
    module, function = place.split(":")
    assert name == "textgen"
    assert getattr(importlib.import_module(module), function) is program.main


def test_ctrl_c_is_an_exit_code_and_no_traceback(monkeypatch):
    def interrupted(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(program, "run_command", interrupted)
    with pytest.raises(SystemExit) as ended:
        program.main()
    assert ended.value.code == 130
