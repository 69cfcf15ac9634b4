"""What a run was computed with: versions, processes, threads, command and memory."""

import sys
from pathlib import Path

import pytest
import torch

from textgen.training.environment import environment, peak_memory_bytes


def test_the_environment_has_versions_processes_threads_and_the_command(accelerator, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["recipes/finetune.py", "--steps", "3"])
    found = environment(accelerator)
    assert torch.__version__.startswith(found["versions"]["torch"])
    assert {"python", "transformers", "accelerate", "numpy"} <= found["versions"].keys()
    assert (found["processes"], found["threads"]) == (1, torch.get_num_threads())
    assert found["command"] == "recipes/finetune.py --steps 3"


def test_peak_memory_is_the_kernels_in_bytes(accelerator):
    [line] = [
        line for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM:")
    ]
    assert peak_memory_bytes(accelerator) == pytest.approx(int(line.split()[1]) * 1024, rel=0.02)
