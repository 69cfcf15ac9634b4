"""This process, as one of however many there are."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from textgen.device import world_size
from textgen.errors import UserError
from textgen.training.distributed.processes import start_process
from textgen.training.environment import environment, peak_memory_bytes


@pytest.fixture(autouse=True)
def _threads_as_before(accelerator) -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_the_number_of_processes_is_the_launchers(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert world_size() == 1
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert world_size() == 4


def test_threads_are_as_asked_for_whatever_the_launcher_set(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    started = start_process(3)
    assert torch.get_num_threads() == 3
    assert (started.num_processes, started.process_index, started.mixed_precision) == (1, 0, "no")


@pytest.mark.parametrize(("cores", "local", "threads"), [(8, "1", 8), (8, "3", 2), (2, "4", 1)])
def test_cores_are_shared_out_evenly_among_the_processes_of_a_machine(monkeypatch, cores, local, threads):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", local)
    start_process(0)
    assert torch.get_num_threads() == threads


def test_processes_that_did_not_find_each_other_are_the_users_to_mend(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="announced 2 processes, but 1 found each other"):
        start_process(1)


def test_the_environment_says_what_computed(accelerator, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["recipes/finetune.py", "--steps", "3"])
    found = environment(accelerator)
    assert torch.__version__.startswith(found["versions"]["torch"])
    assert {"python", "transformers", "accelerate", "numpy"} <= found["versions"].keys()
    assert (found["processes"], found["threads"]) == (1, torch.get_num_threads())
    assert found["command"] == "recipes/finetune.py --steps 3"


def test_peak_memory_is_what_the_kernel_says_in_bytes(accelerator):
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    assert peak_memory_bytes(accelerator) == pytest.approx(int(line.split()[1]) * 1024, rel=0.02)
