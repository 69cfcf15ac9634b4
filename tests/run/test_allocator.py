"""A process restarts itself with another allocator, except where it should not."""

import json
import os
import subprocess
import sys

import pytest

from textgen.errors import UserError
from textgen.run import allocator as module
from textgen.run.allocator import VARIABLE, preload_variables

SCRIPT = """
import json, os, sys
from dataclasses import dataclass
from textgen.run.allocator import allocator
from textgen.run.directory import RunDirectory
from textgen.run.main import run_recipe

@dataclass(frozen=True)
class Words:
    word: str = ""

@dataclass(frozen=True)
class Config:
    words: Words

    def directory(self):
        return RunDirectory({}, path=None, name="x")

def main(config, directory):
    variables = {name: os.environ.get(name) for name in ("LD_PRELOAD", "MIMALLOC_PURGE_DELAY")}
    print(json.dumps({"allocator": allocator(), "word": config.words.word, "pid": os.getpid(), **variables}))

if __name__ == "__main__":
    run_recipe(Config, main, description="Print what the process sees.")
"""


@pytest.fixture
def mimalloc():
    found = module._find_library()
    assert found is not None, "the extra `test` installs one"
    return found


def run(tmp_path, **environment):
    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
    clean = {name: value for name, value in os.environ.items() if name not in (VARIABLE, "LD_PRELOAD")}
    command = [sys.executable, "-u", str(tmp_path / "script.py"), "--word", "two words"]
    process = subprocess.Popen(
        command, env=clean | environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path
    )
    out, err = process.communicate(timeout=60)
    return process, out, err


def test_a_recipe_restarts_with_its_arguments_and_hides_the_library_from_its_children(tmp_path, mimalloc):
    process, out, err = run(tmp_path)
    printed = json.loads(out.splitlines()[-1])
    assert printed["allocator"] in ("tcmalloc", "mimalloc"), err
    assert printed["word"] == "two words"
    assert printed["pid"] == process.pid, "so that a launcher still finds it"
    assert printed["LD_PRELOAD"] is None, "child processes do not inherit it"
    assert process.returncode == 0


@pytest.mark.parametrize("environment", [{VARIABLE: "none"}, {"LD_PRELOAD": "libm.so.6"}])
def test_the_users_choice_wins(tmp_path, environment):
    _, out, _ = run(tmp_path, **environment)
    assert json.loads(out.splitlines()[-1])["allocator"] == "system"
    assert json.loads(out.splitlines()[-1])["LD_PRELOAD"] == environment.get("LD_PRELOAD")


def test_a_library_can_be_named(tmp_path, mimalloc):
    link = tmp_path / "mine.so"
    link.symlink_to(mimalloc)
    _, out, _ = run(tmp_path, **{VARIABLE: str(link)})
    assert json.loads(out.splitlines()[-1])["allocator"] in ("tcmalloc", "mimalloc")
    process, _, err = run(tmp_path, **{VARIABLE: "/nowhere.so"})
    assert process.returncode == 2
    assert err.startswith(f"error: {VARIABLE} /nowhere.so: ")


def test_a_program_that_runs_a_recipe_inside_itself_is_not_restarted(tmp_path, mimalloc):
    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
    code = "import runpy, sys; sys.argv = ['script.py']; runpy.run_path('script.py', run_name='__main__'); print(1)"
    ended = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, text=True, capture_output=True, timeout=60)
    assert json.loads(ended.stdout.splitlines()[1])["allocator"] == "system", ended.stderr
    assert ended.stdout.splitlines()[2] == "1", "the program continues"


def test_settings_of_the_user_are_kept(mimalloc):
    assert preload_variables({})["MIMALLOC_PURGE_DELAY"] == "-1"
    assert preload_variables({"MIMALLOC_PURGE_DELAY": "5"})["MIMALLOC_PURGE_DELAY"] == "5"
    assert preload_variables({VARIABLE: "none"}) == {}
    with pytest.raises(UserError, match="no such file"):
        preload_variables({VARIABLE: "/nowhere.so"})


def test_with_a_gpu_it_takes_a_request_or_computing_on_the_cpu(tmp_path, mimalloc, monkeypatch):
    monkeypatch.setattr(module, "_GPUS", (str(tmp_path),))
    assert preload_variables({}) == {}
    assert preload_variables({"ACCELERATE_USE_CPU": "true"})["LD_PRELOAD"]
    assert preload_variables({VARIABLE: str(mimalloc)})["LD_PRELOAD"] == str(mimalloc)


def test_without_an_installed_allocator_nothing_happens(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_LIBRARIES", ("no-such-library*.so",))
    assert preload_variables({}) == {}
