"""CPU or GPU: what the launcher requested, on machines with and without a GPU."""

import subprocess
import sys

import pytest
import torch

from textgen.errors import UserError
from textgen.launch_environment import check_launch_variables, is_main_process, launcher_uses, on_cpu
from textgen.model.quantized import quantization_options
from textgen.training.distributed.processes import precision_of, start_process
from textgen.training.precision import resolve_precision

VALUES = [("true", True), ("True", True), ("1", True), ("False", False), ("", False)]


@pytest.mark.parametrize(("value", "expected"), VALUES)
def test_the_launchers_variables_are_read_as_accelerate_reads_them(monkeypatch, value, expected):
    assert launcher_uses("CPU", {"ACCELERATE_USE_CPU": value}) is expected
    monkeypatch.setenv("ACCELERATE_USE_CPU", value)
    assert launcher_uses("CPU") is expected


def test_reading_them_does_not_import_torch():
    script = "import sys, textgen.launch_environment as it; it.launcher_uses('CPU'); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize(("gpu", "use_cpu", "expected"), [(False, "", True), (True, "", False), (True, "true", True)])
def test_a_gpu_is_unused_if_the_launcher_requests_the_cpu(monkeypatch, gpu, use_cpu, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    monkeypatch.setenv("ACCELERATE_USE_CPU", use_cpu)
    assert on_cpu() is expected
    assert quantization_options(4, torch.float32)["device_map"] == {"": "cpu" if expected else 3}


def test_with_an_unused_gpu_the_precision_is_that_of_the_cpu(accelerator, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    threads = torch.get_num_threads()
    started = start_process(1, precision="auto")
    torch.set_num_threads(threads)
    assert precision_of(started) == resolve_precision("auto", "cpu") != resolve_precision("auto", "cuda")
    assert started.device.type == "cpu"


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"])
@pytest.mark.parametrize("value", ["x", "", "-1", "1.5"])
def test_an_invalid_variable_of_the_launcher_is_named(name, value):
    with pytest.raises(UserError, match=f"{name} {value}: this environment variable must be a number from"):
        check_launch_variables({name: value})


def test_variables_of_a_launcher_or_none_are_fine():
    check_launch_variables({})
    check_launch_variables({"RANK": "1", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "1"})


def test_a_process_with_an_invalid_rank_prints(monkeypatch):
    monkeypatch.setenv("RANK", "x")
    assert is_main_process()
