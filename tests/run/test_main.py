"""How a recipe starts and ends: exit code, message, and the status in its directory."""

import os
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

from textgen import signals
from textgen.errors import Diverged, Preempted, UserError
from textgen.run import ending
from textgen.run.directory import RunDirectory
from textgen.run.main import run_recipe, run_script


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ending, "HEAD_START", 0.0)
    monkeypatch.setattr(signals, "listen", lambda end: None)


@dataclass(frozen=True)
class Settings:
    config: str | None = None
    run_dir: str | None = None
    rate: float = 1.0
    quiet: bool = False


@dataclass(frozen=True)
class Recipe:
    settings: Settings

    def directory(self) -> RunDirectory:
        return RunDirectory(asdict(self.settings), path=self.settings.run_dir, name="recipe")


def status() -> dict[str, Any]:
    """The status in the directory that ``--run-dir mine`` names."""
    return RunDirectory({}, path="mine", name="recipe").status()


def exit_code(monkeypatch: pytest.MonkeyPatch, main: Any, *flags: str) -> int:
    """Of a recipe with these flags; 0 if it returns."""
    monkeypatch.setattr(sys, "argv", ["recipe.py", *flags])
    try:
        run_recipe(Recipe, main, description="A recipe.\n\nMore of it.")
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


@pytest.mark.parametrize(("error", "code"), [(UserError("--rate 3: too high."), 2), (Diverged("step 3: loss nan."), 3)])
@pytest.mark.parametrize("created", [True, False])
def test_an_error_ends_the_recipe_with_its_exit_code_and_one_message(monkeypatch, capsys, error, code, created):
    def main(config: Recipe, mine: RunDirectory) -> None:
        if created:
            mine.create()
        raise error

    assert exit_code(monkeypatch, main, "--run-dir", "mine") == code
    assert capsys.readouterr().err == f"error: {error}\n"
    assert status().items() >= {"state": "failed", "exit_code": code, "message": str(error)}.items()


def test_a_recipe_without_an_error_returns(monkeypatch, capsys):
    rates = []
    assert exit_code(monkeypatch, lambda config, mine: rates.append(config.settings.rate), "--rate", "2.5") == 0
    assert rates == [2.5]
    assert capsys.readouterr().err == ""


def test_a_quiet_recipe_prints_warnings_and_errors_only(monkeypatch, capsys):
    def main(config: Recipe, mine: RunDirectory) -> None:
        print("step 1")
        print("warning: slow")
        raise UserError("--rate 3: too high.")

    monkeypatch.setattr(sys, "stdout", sys.stdout)
    assert exit_code(monkeypatch, main, "--quiet") == 2
    assert capsys.readouterr() == ("warning: slow\n", "error: --rate 3: too high.\n")


@pytest.mark.parametrize("created", [True, False])
def test_a_bug_keeps_its_traceback_and_is_recorded_only_in_the_runs_own_directory(monkeypatch, created):
    def main(config: Recipe, mine: RunDirectory) -> None:
        if created:
            mine.create()
        raise ZeroDivisionError("by zero")

    with pytest.raises(ZeroDivisionError):
        exit_code(monkeypatch, main, "--run-dir", "mine")
    assert status().get("message") == ("ZeroDivisionError: by zero" if created else None)
    assert status().get("exit_code") == (1 if created else None)


def test_only_the_main_process_reports_an_error(monkeypatch, capsys):
    def main(config: Recipe, mine: RunDirectory) -> None:
        raise UserError("reported once")

    monkeypatch.setenv("RANK", "1")
    assert exit_code(monkeypatch, main, "--run-dir", "mine") == 2
    assert capsys.readouterr().err == ""
    assert not Path("mine").exists()


def test_a_missing_config_file_ends_with_2(monkeypatch, capsys):
    assert exit_code(monkeypatch, lambda config, mine: None, "--config", "nowhere.yaml") == 2
    assert "nowhere.yaml: there is no such file" in capsys.readouterr().err


def test_a_run_that_was_told_to_stop_ends_with_75_and_one_line(monkeypatch, capsys):
    def main(config: Recipe, mine: RunDirectory) -> None:
        mine.create()
        mine.write_status("running", step=11)
        raise Preempted("SIGTERM", saved=12)

    codes: list[int] = []

    def leave(code: int) -> None:
        codes.append(code)
        raise SystemExit(code)

    monkeypatch.setattr(os, "_exit", leave)
    assert exit_code(monkeypatch, main, "--run-dir", "mine") == 75
    message = "stopped by SIGTERM after step 12, which is saved: run the same command again to go on"
    assert capsys.readouterr().err == message + "\n"
    assert status().items() >= {"state": "preempted", "exit_code": 75, "message": message, "step": 12}.items()


def test_a_process_of_a_group_leaves_at_once(monkeypatch):
    import torch.distributed

    codes: list[int] = []

    def leave(code: int) -> None:
        codes.append(code)
        raise SystemExit(0)

    def wrong(config: Recipe, mine: RunDirectory) -> None:
        raise UserError("wrong")

    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(os, "_exit", leave)
    for main in (wrong, lambda config, mine: None):
        assert exit_code(monkeypatch, main) == 0
    assert codes == [2, 0]


@pytest.mark.parametrize("run", [run_script, run_recipe])
def test_help_shows_the_first_paragraph_of_the_description(monkeypatch, capsys, run: Callable[..., None]):
    monkeypatch.setattr(sys, "argv", ["recipe.py", "--help"])
    with pytest.raises(SystemExit) as caught:
        run(Recipe, lambda *arguments: None, description="A recipe.\n\nMore of it.")
    assert not caught.value.code
    shown = capsys.readouterr().out
    assert "A recipe." in shown
    assert "More of it." not in shown


def test_a_script_gets_its_configuration_and_ends_with_the_exit_code_of_its_error(monkeypatch, capsys):
    rates = []

    def main(config: Recipe) -> None:
        rates.append(config.settings.rate)
        raise UserError("--rate 3: too high.")

    monkeypatch.setattr(sys, "argv", ["script.py", "--rate", "3"])
    with pytest.raises(SystemExit) as caught:
        run_script(Recipe, main, description="A script.")
    assert (rates, caught.value.code) == ([3.0], 2)
    assert capsys.readouterr().err == "error: --rate 3: too high.\n"
