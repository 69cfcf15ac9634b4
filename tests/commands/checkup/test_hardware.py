"""Devices, threads and the allocator of this machine, and of others."""

from pathlib import Path

import pytest
import torch

from textgen.commands.checkup import hardware
from textgen.commands.checkup.hardware import check_allocator, check_devices, check_threads, cpu_quota


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(hardware, "_DRIVERS", {})


def test_without_a_gpu_the_cpu_is_named(no_gpu):
    [finding] = check_devices()
    assert finding.state == "ok"
    assert finding.text.startswith("no GPU; a CPU, in fp32")


def test_a_gpu_that_torch_cannot_use_is_a_fault(no_gpu, monkeypatch, tmp_path):
    (tmp_path / "driver").touch()
    monkeypatch.setattr(hardware, "_DRIVERS", {str(tmp_path / "driver"): "NVIDIA"})
    [finding] = check_devices()
    assert finding.state == "fault"
    assert "cannot use the NVIDIA GPU" in finding.text


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_every_gpu_is_named_with_its_precision():
    assert len(check_devices()) == torch.cuda.device_count()


@pytest.mark.parametrize(("text", "cores"), [("max 100000", None), ("150000 100000", 1.5), ("", None)])
def test_the_limit_of_a_container(text, cores):
    assert cpu_quota(text) == cores


def test_fewer_cores_than_there_seem_to_be_are_a_note(monkeypatch, tmp_path):
    quota = tmp_path / "cpu.max"
    quota.write_text("10000 100000\n")
    monkeypatch.setattr(hardware, "_QUOTA", quota)
    [finding] = check_threads()
    assert (finding.state, finding.mend) == ("note", "Use --threads 1.")
    monkeypatch.setattr(hardware, "_QUOTA", tmp_path / "none")
    assert check_threads()[0].state == "ok"


def test_without_an_allocator_there_is_a_note_on_how_to_get_one(no_gpu, monkeypatch):
    monkeypatch.delenv("LD_PRELOAD", raising=False)
    monkeypatch.setattr(hardware, "preload_variables", lambda environment: {})
    [finding] = check_allocator()
    assert finding.state == "note"
    assert finding.mend.startswith("pip install cmeel-mimalloc")
    monkeypatch.setattr(hardware, "preload_variables", lambda environment: {"LD_PRELOAD": "/x/libmimalloc.so"})
    assert check_allocator()[0].text == Path("libmimalloc.so").name
