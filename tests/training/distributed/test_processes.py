"""Starting a process: its threads and the number of processes."""

import os
from collections.abc import Iterator

import pytest
import torch

from textgen.errors import UserError
from textgen.launch_environment import world_size
from textgen.training.distributed.processes import start_process


@pytest.fixture(autouse=True)
def _restore_threads(accelerator) -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_the_number_of_processes_comes_from_the_launcher(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert world_size() == 1
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert world_size() == 4


def test_the_number_of_threads_overrides_the_launchers(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    started = start_process(3)
    assert torch.get_num_threads() == 3
    assert (started.num_processes, started.process_index, started.mixed_precision) == (1, 0, "no")


@pytest.mark.parametrize(("cores", "local", "threads"), [(8, "1", 8), (8, "3", 2), (2, "4", 1)])
def test_cores_are_divided_evenly_among_the_processes_of_a_machine(monkeypatch, cores, local, threads):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", local)
    start_process(0)
    assert torch.get_num_threads() == threads


def test_fewer_processes_than_announced_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="announced 2 processes, but 1 started"):
        start_process(1)
