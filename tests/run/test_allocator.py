"""A process that starts itself again with another allocator, and those that had better not."""

import json
import os
import subprocess
import sys

import pytest

from textgen.errors import UserError
from textgen.run import allocator as module
from textgen.run.allocator import VARIABLE, preloading

SCRIPT = """
import json, os, sys
from dataclasses import dataclass
from textgen.run.directory import RunDirectory, launch
from textgen.run.allocator import allocator

@dataclass(frozen=True)
class Words:
    word: str = ""

@dataclass(frozen=True)
class Config:
    words: Words

    def directory(self):
        return RunDirectory({}, given=None, name="x")

def main(config, directory):
    kept = {name: os.environ.get(name) for name in ("LD_PRELOAD", "MIMALLOC_PURGE_DELAY")}
    print(json.dumps({"allocator": allocator(), "word": config.words.word, "pid": os.getpid(), **kept}))

if __name__ == "__main__":
    launch(Config, main, description="Say.")
"""


@pytest.fixture
def mimalloc():
    found = module._find()
    assert found is not None, "the extra `test` brings one"
    return found


def run(tmp_path, **environment):
    (tmp_path / "say.py").write_text(SCRIPT)
    clean = {name: value for name, value in os.environ.items() if name not in (VARIABLE, "LD_PRELOAD")}
    command = [sys.executable, "-u", str(tmp_path / "say.py"), "--word", "two words"]
    process = subprocess.Popen(
        command, env=clean | environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path
    )
    out, err = process.communicate(timeout=60)
    return process, out, err


def test_a_recipe_starts_itself_again_with_its_arguments_and_leaves_no_trace(tmp_path, mimalloc):
    process, out, err = run(tmp_path)
    said = json.loads(out)
    assert said["allocator"] in ("tcmalloc", "mimalloc"), err
    assert said["word"] == "two words"
    assert said["pid"] == process.pid, "a launcher still knows it"
    assert said["LD_PRELOAD"] is None, "what it starts is left alone"
    assert process.returncode == 0


@pytest.mark.parametrize("environment", [{VARIABLE: "none"}, {"LD_PRELOAD": "libm.so.6"}])
def test_the_user_decides(tmp_path, environment):
    _, out, _ = run(tmp_path, **environment)
    assert json.loads(out)["allocator"] == "system"
    assert json.loads(out)["LD_PRELOAD"] == environment.get("LD_PRELOAD")


def test_a_library_by_name(tmp_path, mimalloc):
    link = tmp_path / "mine.so"
    link.symlink_to(mimalloc)
    _, out, _ = run(tmp_path, **{VARIABLE: str(link)})
    assert json.loads(out)["allocator"] in ("tcmalloc", "mimalloc")
    process, _, err = run(tmp_path, **{VARIABLE: "/nowhere.so"})
    assert process.returncode == 2
    assert err.startswith(f"error: {VARIABLE} /nowhere.so: ")


def test_whoever_runs_a_recipe_inside_another_program_goes_on_with_that(tmp_path, mimalloc):
    (tmp_path / "say.py").write_text(SCRIPT)
    code = "import runpy, sys; sys.argv = ['say.py']; runpy.run_path('say.py', run_name='__main__'); print('after')"
    said = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, text=True, capture_output=True, timeout=60)
    assert json.loads(said.stdout.splitlines()[0])["allocator"] == "system", said.stderr
    assert said.stdout.splitlines()[1] == "after"


def test_settings_of_the_user_stay(mimalloc):
    assert preloading({})["MIMALLOC_PURGE_DELAY"] == "-1"
    assert preloading({"MIMALLOC_PURGE_DELAY": "5"})["MIMALLOC_PURGE_DELAY"] == "5"
    assert preloading({VARIABLE: "none"}) == {}
    with pytest.raises(UserError, match="no such file"):
        preloading({VARIABLE: "/nowhere.so"})


def test_beside_a_gpu_only_who_asks_or_computes_on_the_cpu_gets_one(tmp_path, mimalloc, monkeypatch):
    monkeypatch.setattr(module, "_GPUS", (str(tmp_path),))
    assert preloading({}) == {}
    assert preloading({"ACCELERATE_USE_CPU": "true"})["LD_PRELOAD"]
    assert preloading({VARIABLE: str(mimalloc)})["LD_PRELOAD"] == str(mimalloc)


def test_without_any_installed_nothing_happens(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_LIBRARIES", ("no-such-library*.so",))
    assert preloading({}) == {}
