"""Tests that need a GPU; the other tests run the same code on CPU processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from running import LIGHT, ROOT, curve, read_lines, same_numbers

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
several = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")


def launched(launch_file: str, *flags: object, run_dir: Path) -> Path:
    """Run the recipe as its launch file says, and return its directory."""
    accelerate = Path(sys.executable).with_name("accelerate")
    command = [accelerate, "launch", "--config_file", ROOT / "launch" / f"{launch_file}.yaml"]
    command += [ROOT / "recipes" / "finetune.py", *LIGHT, *flags, "--run-dir", run_dir]
    environment = {name: value for name, value in os.environ.items() if name != "ACCELERATE_USE_CPU"}
    subprocess.run([str(word) for word in command], check=True, timeout=600, env=environment)
    return run_dir


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["--precision", "fp16"],
        ["--compile"],
        ["--microbatch-size", "auto"],
        ["--gradient-checkpointing"],
        ["--optimizer", "adamw8bit"],
        ["--optimizer", "muon"],
        ["--method", "qlora"],
    ],
    ids=" ".join,
)
def test_training_on_a_gpu_lowers_the_loss(text_file, tmp_path, flags):
    run = launched("one_process", "--data", text_file, *flags, run_dir=tmp_path / "run")
    perplexity = json.loads((run / "evaluation" / "perplexity.json").read_text())
    assert perplexity["after"]["nll_sum"] < perplexity["before"]["nll_sum"]
    environment = json.loads((run / "environment.json").read_text())
    assert not environment["device"].startswith("cpu")
    assert environment["precision"] == ("fp16" if "fp16" in flags else "bf16")
    assert all(row["peak_memory_bytes"] > 0 for row in read_lines(run / "timing.jsonl"))


@several
@pytest.mark.parametrize("launch_file", ["multi_gpu", "fsdp2", "deepspeed_zero2"])
def test_two_gpus_give_the_curve_of_one(text_file, tmp_path, launch_file):
    flags = ["--data", text_file, "--precision", "fp32"]
    one = launched("one_process", *flags, run_dir=tmp_path / "one")
    two = launched(launch_file, *flags, run_dir=tmp_path / "two")
    same_numbers(curve(two), curve(one), 1e-4)


@several
def test_exact_runs_leave_the_same_bytes_on_one_gpu_and_on_two(text_file, tmp_path):
    flags = ["--data", text_file, "--precision", "fp32", "--exact"]
    runs = [launched(name, *flags, run_dir=tmp_path / name) for name in ("one_process", "multi_gpu")]
    assert runs[0].joinpath("metrics.jsonl").read_bytes() == runs[1].joinpath("metrics.jsonl").read_bytes()
