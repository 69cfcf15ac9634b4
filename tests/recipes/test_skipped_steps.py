"""Runs whose loss is not finite in some steps: skipped by all processes, on record, and resumed to the same bytes."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from prefork import Ended, Prefork
from running import DEEPSPEED, FSDP, LIGHT, ROOT, read_lines, tree

pytestmark = pytest.mark.slow

VARY = ("manifest.json", "environment.json", "timing.jsonl", "config.yaml")  # in a checkpoint, between equal runs


@pytest.fixture
def poisoned(python: Prefork, tmp_path: Path, text_file: Path) -> Callable[..., Ended]:
    """``poisoned("3 nan 0", directory, *flags, processes=2)``."""

    def run(faults: str, directory: Path, *flags: object, processes: int = 1, check: bool = True) -> Ended:
        environment = os.environ | {"TEXTGEN_CACHE": str(tmp_path / "cache"), "POISON": faults, "OMP_NUM_THREADS": "1"}
        script = ROOT / "tests" / "recipes" / "poisoned.py"
        command = [script, *LIGHT, "--data", text_file, *flags, "--run-dir", directory]
        ranks = processes if processes > 1 else None
        return python.run(command, processes=ranks, cwd=tmp_path, env=environment, check=check)

    return run


BACKENDS = {"alone": (1, {}, []), "ddp": (2, {}, []), "fsdp": (2, FSDP, []), "deepspeed": (2, DEEPSPEED, [])}
BACKENDS |= {"exact": (2, {}, ["--exact"]), "fp16": (2, {}, ["--precision", "fp16"])}


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_step_that_is_not_finite_on_one_process_is_skipped_on_all(poisoned, tmp_path, monkeypatch, backend):
    processes, environment, flags = BACKENDS[backend]
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    run = tmp_path / "run"
    ran = poisoned(f"3 nan {processes - 1}", run, *flags, processes=processes)
    rows = read_lines(run / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert rows[2].keys() - {"train/grad_norm"} == {"step", "train/learning_rate", "train/tokens", "train/skipped"}
    assert rows[2]["train/tokens"] == rows[1]["train/tokens"] < rows[3]["train/tokens"]
    assert all(row["train/loss"] < 10 and "train/skipped" not in row for row in rows if row["step"] != 3)
    [event] = read_lines(run / "events.jsonl")
    assert (event["step"], event["kind"], event["loss"], event["in_a_row"]) == (3, "skipped", "nan", 1)
    assert len(set(event["documents"])) == len(event["documents"]) > 1
    assert all(id.startswith("texts.txt#") for id in event["documents"])
    assert "step 3: skipped, loss nan" in ran.out
    assert (run / "model" / "model.safetensors").is_file()


def test_an_interrupted_run_with_skipped_steps_ends_with_the_same_bytes(poisoned, tmp_path):
    """The checkpoint of step 4 is the newest: that of step 2 would be, if step 4 were skipped too."""
    faults = "3 nan 0,5 inf 0"
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    poisoned(faults, whole)
    assert [event["step"] for event in read_lines(whole / "events.jsonl")] == [3, 5]
    shutil.copytree(whole, stopped)
    shutil.rmtree(stopped / "checkpoints" / "step-00000006")
    shutil.rmtree(stopped / "model")
    (stopped / "status.json").write_text('{"state": "running"}')
    (stopped / "manifest.json").unlink()
    assert "after step 4" in poisoned(faults, stopped).out
    for name in ("metrics.jsonl", "events.jsonl"):
        assert (stopped / name).read_bytes() == (whole / name).read_bytes()
    assert tree(stopped / "model") == tree(whole / "model")
    ended, expected = (tree(run / "checkpoints") for run in (stopped, whole))
    assert ended.keys() == expected.keys()
    assert {n: b for n, b in ended.items() if not n.endswith(VARY)} == {
        n: b for n, b in expected.items() if not n.endswith(VARY)
    }


def test_too_many_skipped_steps_end_the_run_with_the_last_good_checkpoint(poisoned, tmp_path):
    run = tmp_path / "run"
    flags = ["--checkpoint-every", "1", "--keep-checkpoints", "1", "--max-skipped-steps", "2"]
    ran = poisoned("3 nan 0,4 nan 0,5 nan 0", run, *flags, check=False)
    assert ran.code == 3
    assert "step 5: loss nan, gradient norm nan, the last of 3 skipped steps in a row" in ran.error
    assert "Traceback" not in ran.error
    assert json.loads((run / "status.json").read_text())["exit_code"] == 3
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-00000002"]
    assert [event["in_a_row"] for event in read_lines(run / "events.jsonl")] == [1, 2, 3]
    assert [row.get("train/skipped") for row in read_lines(run / "metrics.jsonl")] == [None, None, 1, 1]
    # The numbers are right again: the same command goes on from there.
    assert "after step 2" in poisoned("", run, *flags).out
    assert not read_lines(run / "events.jsonl")


def test_a_spike_is_recorded_and_changes_nothing_else(poisoned, tmp_path):
    flags = ["--steps", "24", "--checkpoint-every", "0"]
    poisoned("", tmp_path / "plain", *flags)
    ran = poisoned("20 9 0", tmp_path / "spiked", *flags)
    [event] = read_lines(tmp_path / "spiked" / "events.jsonl")
    assert (event["step"], event["kind"]) == (20, "spike")
    assert event["loss"] > event["limit"] > 1
    assert event["documents"]
    assert "step 20: loss " in ran.out
    assert not (tmp_path / "plain" / "events.jsonl").exists()
    rows, plain = (read_lines(tmp_path / name / "metrics.jsonl") for name in ("spiked", "plain"))
    assert rows[:19] == plain[:19]
    assert [row.keys() for row in rows] == [row.keys() for row in plain]


def test_an_evaluation_of_weights_that_are_not_finite_ends_with_the_code_of_divergence(run_recipe, text_file, tmp_path):
    flags = ["--data", text_file, "--run-dir", tmp_path / "run", "--learning-rate", "1e30", "--warmup-steps", "0"]
    flags += ["--evaluate-every", "1", "--checkpoint-every", "1", "--max-grad-norm", "0"]
    ran = run_recipe("finetune", *LIGHT, *flags, check=False)
    assert ran.code == 3, ran.error
    assert "Traceback" not in ran.error
    assert not list((tmp_path / "run").glob("checkpoints/step-*"))
