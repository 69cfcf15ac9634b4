"""More steps for a run that is there: it goes on to the same bytes, or says why not and what to do."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from running import QUICK, ROOT, read_lines, tree

# Neither 5 nor 9 is a multiple of an interval.
FLAGS = [*QUICK, "--skip-decoding", "--schedule", "constant", "--log-every", "2", "--evaluate-every", "3"]
FLAGS += ["--sample-every", "4"]


@pytest.fixture(scope="module")
def train(run_recipe, text_file):
    def run(run_dir: Path, *flags: object, check: bool = True):
        return run_recipe("finetune", *FLAGS, "--data", text_file, "--run-dir", run_dir, *flags, check=check)

    return run


@pytest.fixture(scope="module")
def long(train, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("long") / "run"
    train(path, "--steps", 9)
    return path


@pytest.fixture(scope="module")
def short(train, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("short") / "run"
    train(path, "--steps", 5)
    return path


@pytest.fixture
def copied(short: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(short, tmp_path / "run"))


def assert_same_run(one: Path, other: Path) -> None:
    assert tree(one / "model") == tree(other / "model")
    assert (one / "metrics.jsonl").read_bytes() == (other / "metrics.jsonl").read_bytes()
    assert (one / "samples.jsonl").read_bytes() == (other / "samples.jsonl").read_bytes()
    perplexity, others = (json.loads((run / "evaluation/perplexity.json").read_text()) for run in (one, other))
    for entries in (perplexity, others):
        entries["after"].pop("model"), entries["before"].pop("model")
    assert perplexity == others
    assert json.loads((one / "status.json").read_text())["step"] == 9


def test_a_finished_run_goes_on_to_the_bytes_of_the_longer_one(train, short, copied, long) -> None:
    assert read_lines(short / "metrics.jsonl")[-1].keys() > {"step", "train/loss", "eval/bits_per_byte"}
    assert "resuming from" in train(copied, "--steps", 9).out
    assert_same_run(copied, long)
    assert "already complete" in train(copied, "--steps", 9).out


def test_a_run_that_is_killed_after_it_was_extended_goes_on(train, text_file, copied, long, tmp_path) -> None:
    command = [sys.executable, str(ROOT / "recipes/finetune.py"), *FLAGS, "--data", str(text_file)]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TEXTGEN_CACHE": str(tmp_path / "cache")}
    process = subprocess.Popen(
        [*command, "--run-dir", str(copied), "--steps", "9"], env=environment, stdout=subprocess.DEVNULL
    )
    deadline = time.time() + 120
    while time.time() < deadline and process.poll() is None:
        if json.loads((copied / "status.json").read_text())["state"] == "running":
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.005)
    assert process.wait(timeout=60) == -signal.SIGKILL
    assert not (copied / "checkpoints/step-00000006").exists()
    train(copied, "--steps", 9)
    assert_same_run(copied, long)


def test_more_epochs_are_more_steps(train, tmp_path) -> None:
    from_scratch, extended = tmp_path / "whole", tmp_path / "extended"
    epochs = ["--steps", "None", "--epochs"]
    train(extended, *epochs, 0.1)
    train(extended, *epochs, 0.3)
    train(from_scratch, *epochs, 0.3)
    assert tree(extended / "model") == tree(from_scratch / "model")
    assert (extended / "metrics.jsonl").read_bytes() == (from_scratch / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--steps", 4], "has been trained for 5 steps already"),
        (["--steps", 9, "--warmup-steps", "auto"], "Add --warmup-steps 2 to go on with the warm-up that it had"),
        (["--steps", 60, "--warmup-steps", "auto"], "in step 1: --schedule constant of 5 steps, with 2 of warm-up"),
        (["--steps", 9, "--schedule", "cosine"], "schedule: constant (existing) vs cosine (requested)"),
        (["--steps", 9, "--seed", 1], "seed: 0 (existing) vs 1 (requested)"),
    ],
)
def test_a_run_that_cannot_go_on_is_left_as_it_is(train, short, flags, words) -> None:
    before = tree(short)
    ended = train(short, *flags, check=False)
    assert ended.code == 2
    assert words in ended.error
    assert tree(short) == before


def test_a_decaying_schedule_says_why_and_its_advice_works(train, tmp_path) -> None:
    run, cosine = tmp_path / "run", ["--schedule", "cosine", "--sample-every", 0]
    train(run, "--steps", 5, *cosine)
    ended = train(run, "--steps", 9, *cosine, check=False)
    assert ended.code == 2
    assert "cannot go on to 9 steps. Its steps so far would have had other learning rates" in ended.error
    checkpoint = ended.error.split("--resume ")[1].strip().removesuffix(".")
    resumed = train(tmp_path / "new", "--steps", 9, *cosine, "--resume", checkpoint)
    assert f"--resume {checkpoint}: settings that differ from those of its run: steps: 5 (existing) vs 9" in resumed.out
    assert [row["step"] for row in read_lines(tmp_path / "new/metrics.jsonl")] == [6, 8, 9]
    again = train(tmp_path / "new", "--steps", 9, *cosine, "--resume", checkpoint)
    assert "already complete" in again.out


def test_a_checkpoint_of_another_run_resumes_with_other_settings_that_make_sense(train, short, tmp_path) -> None:
    checkpoint = short / "checkpoints/step-00000005"
    flags = ["--steps", 9, "--learning-rate", 1e-4, "--resume", checkpoint]
    ended = train(tmp_path / "new", *flags)
    assert "learning_rate: 0.001 (existing) vs 0.0001 (requested)" in ended.out
    assert read_lines(tmp_path / "new/metrics.jsonl")[0]["train/learning_rate"] == 1e-4
    refused = train(tmp_path / "other", *flags, "--global-batch-size", 4, check=False)
    assert refused.code == 2
    assert "global_batch_size: 8 (existing) vs 4 (requested)" in refused.error
    assert not (tmp_path / "other/config.yaml").exists()


def test_what_changed_is_named(run_recipe, text_file, tmp_path) -> None:
    from textgen.model.locate import BUNDLED_MODELS

    model, data, run = tmp_path / "model", tmp_path / "data", tmp_path / "run"
    shutil.copytree(BUNDLED_MODELS["tiny-gpt2"], model)
    data.mkdir()
    shutil.copy(text_file, data / "texts.txt")
    (data / "more.txt").write_text("Some more of it.\n")
    flags = [*FLAGS, "--steps", 2, "--data", data, "--model", model, "--run-dir", run]
    run_recipe("finetune", *flags)
    for name in ("status.json", "manifest.json"):  # as if it had been killed
        (run / name).unlink()

    def refused() -> str:
        ended = run_recipe("finetune", *flags, check=False)
        assert ended.code == 2, ended.out
        return ended.error

    (data / "more.txt").write_text("Some more of IT.\n")
    assert "the data changed since this checkpoint was written (more.txt: other content)" in refused()
    (data / "more.txt").write_text("Some more of it.\n")
    tokenizer = (model / "tokenizer.json").read_text()
    changed = json.loads(tokenizer)
    merges = changed["model"]["merges"]
    merges[-1], merges[-2] = merges[-2], merges[-1]
    (model / "tokenizer.json").write_text(json.dumps(changed))
    assert "the tokenizer changed since this checkpoint was written (tokenizer.json: " in refused()
    (model / "tokenizer.json").write_text(tokenizer)
    weights = bytearray((model / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (model / "model.safetensors").write_bytes(weights)
    assert "the model changed since this checkpoint was written (model.safetensors: other content)" in refused()
