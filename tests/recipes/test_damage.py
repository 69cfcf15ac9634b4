"""Every file of a run, damaged in every way: restored, measured again or refused by name; never used, no traceback.

Situations: a run that was killed is resumed; the command of a finished run is repeated; a file is damaged while the run
still goes on; another program reads a finished run.
"""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from damage import DAMAGES, contents, damage, files_of, outcome
from prefork import Ended, Prefork
from running import QUICK, ROOT

from textgen.errors import UserError
from textgen.reporting.results import RunFiles

RESULTS = ("checksums.json", "contamination.json", "continuations.jsonl", "decoding.json", "diagnostics.json")
RESULTS += ("documents.jsonl", "perplexity.json", "recommendation.json")
MODEL = ("config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
UNFINISHED = ["config.yaml", "environment.json", *(f"evaluation/{name}" for name in RESULTS)]
UNFINISHED += ["evaluation/records/process-0.jsonl", "metrics.jsonl", "samples.jsonl", "status.json", "timing.jsonl"]
FINISHED = [*UNFINISHED, "manifest.json", *(f"model/{name}" for name in MODEL)]
DURING = [name for name in FINISHED if name != "manifest.json"]
EXHAUSTIVE = [pytest.mark.slow, pytest.mark.exhaustive]
SITUATIONS = {"resumed": UNFINISHED, "repeated": FINISHED, "during": DURING}

# Of the cases, those that run by default: each file that is handled in a way of its own.
SAMPLE = {
    ("resumed", "config.yaml", "array"),
    ("resumed", "metrics.jsonl", "digit"),
    ("resumed", "evaluation/documents.jsonl", "cut"),
    ("repeated", "status.json", "array"),
    ("repeated", "model/model.safetensors", "flipped"),
    ("repeated", "manifest.json", "deleted"),
    ("during", "samples.jsonl", "emptied"),
    ("during", "evaluation/perplexity.json", "array"),
    ("during", "model/config.json", "digit"),
    ("during", "status.json", "flipped"),
}


@dataclass(frozen=True)
class Prepared:
    """A run to damage.

    Attributes:
        run_dir: where it must be, since files contain its path.
        finished: a copy of it, complete.
        killed: a copy of it, killed after step 5 of 6.
        expected: what it must end with.
        run: runs its command there, perhaps with an accident.
    """

    run_dir: Path
    finished: Path
    killed: Path
    expected: dict[str, bytes]
    run: Callable[..., Ended]

    def put(self, state: Path) -> None:
        shutil.rmtree(self.run_dir, ignore_errors=True)
        shutil.copytree(state, self.run_dir)


@pytest.fixture(scope="module")
def prepared(python: Prefork, text_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    home = tmp_path_factory.mktemp("damaged")
    flags: list[object] = [*QUICK, "--data", text_file, "--run-dir", home / "run", "--strategies", "greedy,top_p"]
    flags += ["--sample-every", "4", "--evaluation-tokens", "300"]
    environment = os.environ | {"TEXTGEN_CACHE": str(home / "cache"), "OMP_NUM_THREADS": "1"}

    def run(accident: str = "", processes: int | None = None) -> Ended:
        script = ROOT / "tests/recipes/damaged_finetune.py"
        return python.run([script, *flags], processes=processes, cwd=home, env=environment | {"ACCIDENT": accident})

    assert run("kill").code == 9
    shutil.copytree(home / "run", home / "killed")
    assert run().code == 0
    shutil.copytree(home / "run", home / "finished")
    expected = contents(home / "run")
    shutil.rmtree(home / "run")
    ended = run()
    assert ended.code == 0, ended.error
    assert contents(home / "run") == expected, "a run that was not killed ends with the same"
    return Prepared(home / "run", home / "finished", home / "killed", expected, run)


def cases() -> list[Any]:
    every = [(where, name, kind) for where, names in SITUATIONS.items() for name in names for kind in DAMAGES]
    assert set(every) >= SAMPLE
    return [pytest.param(*case, marks=[] if case in SAMPLE else EXHAUSTIVE) for case in every]


def test_every_file_is_among_the_cases(prepared):
    assert files_of(prepared.finished) == sorted(FINISHED)
    assert files_of(prepared.killed) == sorted(UNFINISHED)
    assert len(cases()) == 8 * (len(UNFINISHED) + 2 * len(FINISHED) - 1) == 448


@pytest.mark.parametrize(("situation", "name", "kind"), cases())
def test_a_damaged_file_is_mended_or_refused(prepared, situation, name, kind):
    if situation == "during":
        shutil.rmtree(prepared.run_dir, ignore_errors=True)
        ended = prepared.run(f"{kind}:{name}")
    else:
        prepared.put(prepared.killed if situation == "resumed" else prepared.finished)
        if not damage(prepared.run_dir / name, kind):
            pytest.skip("there is nothing to damage in this way")
        ended = prepared.run()
    found = outcome(ended.code, ended.error, name, prepared.expected, prepared.run_dir)
    refused = situation == "during" and name.startswith("model/")
    assert found == ("refused" if refused else "mended"), ended.error
    status = json.loads((prepared.run_dir / "status.json").read_text(encoding="utf-8"))
    assert (status["state"], status["exit_code"]) == (("failed", 2) if refused else ("done", 0))
    assert not refused or Path(name).name in status["message"]


def test_a_model_that_was_refused_is_restored_by_the_same_command(prepared):
    shutil.rmtree(prepared.run_dir, ignore_errors=True)
    assert prepared.run("flipped:model/model.safetensors").code == 2
    ended = prepared.run()
    assert ended.code == 0, ended.error
    assert contents(prepared.run_dir) == prepared.expected


@pytest.mark.slow
@pytest.mark.parametrize("name", ["metrics.jsonl", "evaluation/documents.jsonl", "evaluation/checksums.json"])
def test_all_processes_agree_on_what_is_damaged(prepared, name):
    prepared.put(prepared.killed)
    assert damage(prepared.run_dir / name, "flipped")
    ended = prepared.run(processes=2)
    assert ended.code == 0, ended.error
    found = contents(prepared.run_dir)
    assert found.keys() == prepared.expected.keys()
    copied = (prepared.killed / "checkpoints/step-00000004/metrics.jsonl").read_bytes()
    assert found["metrics.jsonl"].startswith(copied)
    assert found["metrics.jsonl"].count(b"\n") == 6


@pytest.mark.parametrize("name", ["model/model.safetensors", "metrics.jsonl", "status.json"])
def test_without_a_checkpoint_a_damaged_finished_run_is_refused_and_kept(prepared, name):
    prepared.put(prepared.finished)
    shutil.rmtree(prepared.run_dir / "checkpoints")
    assert damage(prepared.run_dir / name, "flipped")
    before = contents(prepared.run_dir)
    ended = prepared.run()
    assert contents(prepared.run_dir) == before
    if name == "status.json":
        assert ended.code == 0
        assert (prepared.run_dir / name).read_bytes() == (prepared.finished / name).read_bytes()
    else:
        assert ended.code == 2
        assert (
            f"{prepared.run_dir / name}: missing or damaged, and no intact checkpoint of the last step" in ended.error
        )


def test_other_programs_never_read_a_damaged_file_of_a_finished_run(prepared):
    def read() -> list[Any]:
        run = RunFiles.read(prepared.run_dir)
        return [run, list(run.continuations()), run.samples()]

    prepared.put(prepared.finished)
    whole, refused, tried = read(), [], 0
    unlisted = ("status.json", "manifest.json", "evaluation/records/process-0.jsonl")
    for name in FINISHED:
        for kind in DAMAGES:
            tried += damage(prepared.run_dir / name, kind)
            try:
                found = read()
            except UserError as error:
                refused.append((name, str(error)))
            else:
                assert found == whole or name == "status.json"
                assert name in unlisted or name.startswith("model/")
            shutil.copy(prepared.finished / name, prepared.run_dir / name)
    assert tried > 8 * len(FINISHED) - 10
    assert len(refused) >= 8 * (len(FINISHED) - len(unlisted) - len(MODEL)) - 10
    assert all(Path(name).name in message for name, message in refused)
