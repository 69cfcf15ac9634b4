"""Who computes where, on machines with and without a GPU."""

import subprocess
import sys

import pytest
import torch

from textgen.device import launcher_uses, on_cpu
from textgen.model.quantized import quantization_options
from textgen.training.distributed.processes import precision_of, start_process
from textgen.training.precision import resolve_precision

WORDS = [("true", True), ("True", True), ("1", True), ("False", False), ("", False)]


@pytest.mark.parametrize(("word", "asked"), WORDS)
def test_the_launcher_says_so_in_its_own_words(monkeypatch, word, asked):
    assert launcher_uses("CPU", {"ACCELERATE_USE_CPU": word}) is asked
    monkeypatch.setenv("ACCELERATE_USE_CPU", word)
    assert launcher_uses("CPU") is asked


def test_asking_takes_no_torch():
    script = "import sys, textgen.device; textgen.device.launcher_uses('CPU'); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize(("gpu", "asked", "cpu"), [(False, "", True), (True, "", False), (True, "true", True)])
def test_a_gpu_is_left_alone_where_the_cpu_was_asked_for(monkeypatch, gpu, asked, cpu):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    monkeypatch.setenv("ACCELERATE_USE_CPU", asked)
    assert on_cpu() is cpu
    assert quantization_options(4, torch.float32)["device_map"] == {"": "cpu" if cpu else 3}


def test_beside_a_gpu_that_is_left_alone_the_precision_is_that_of_the_cpu(accelerator, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    threads = torch.get_num_threads()
    started = start_process(1, precision="auto")
    torch.set_num_threads(threads)
    assert precision_of(started) == resolve_precision("auto", "cpu") != resolve_precision("auto", "cuda")
    assert started.device.type == "cpu"
