"""The largest microbatch that fits, decided by all processes together."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from textgen.errors import UserError
from textgen.model.loss import ScoredModel
from textgen.training import memory
from textgen.training.memory import MARGIN, available_bytes, fit_microbatch, largest_that_fits, microbatch_sizes

sizes = st.integers(1, 64)


@given(global_batch=sizes, world=st.integers(1, 8))
def test_every_size_divides_the_global_batch_into_equal_shares(global_batch, world):
    found = microbatch_sizes(global_batch, world)
    assert found == sorted(found)
    assert all(global_batch % (size * world) == 0 for size in found)
    assert (found == []) is (global_batch % world != 0)


@given(
    row=st.integers(0, 10**6),
    fixed=st.integers(0, 10**6),
    later=st.integers(0, 10**6),
    available=st.integers(0, 10**8),
    global_batch=sizes,
)
def test_the_largest_fits_and_the_next_does_not(row, fixed, later, available, global_batch):
    candidates = microbatch_sizes(global_batch, 1)
    chosen = largest_that_fits(candidates, (fixed + row, fixed + 2 * row), later, available)
    usable = available * (1 - MARGIN)
    if chosen is None:
        assert fixed + later + row > usable
        return
    assert fixed + later + chosen * row <= usable
    assert all(fixed + later + size * row > usable for size in candidates if size > chosen)


@pytest.fixture
def scored(tiny_gpt2) -> ScoredModel:
    return ScoredModel(tiny_gpt2())


def fit(accelerator, scored, **given) -> int:
    return fit_microbatch(accelerator, scored, block_size=32, global_batch_size=12, **given)


def test_where_there_is_room_the_whole_batch_is_one_microbatch(accelerator, scored):
    assert fit(accelerator, scored) == 12


def test_trying_leaves_no_trace(accelerator, scored):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    scored.eval()
    fit(accelerator, scored)
    assert torch.equal(torch.rand(2), expected)
    assert not scored.training
    assert all(p.grad is None for p in scored.parameters())


def test_peaks_are_measured_and_grow_with_the_rows(accelerator, tiny_gpt2):
    """Of a model whose activations are large beside what the process has in use anyway."""
    wide = ScoredModel(tiny_gpt2(n_embd=256, n_positions=512))
    start = memory._in_use(accelerator.device)
    few, many = (memory._peak_of_a_pass(wide, rows, 512, accelerator) - start for rows in (2, 16))
    assert many > few + 50 * 2**20


@pytest.mark.parametrize(("free", "chosen"), [(200, 3), (10**6, 12)])
def test_what_is_free_decides(accelerator, scored, monkeypatch, free, chosen):
    peaks = iter([0, 30, 60])  # the first pass warms up
    monkeypatch.setattr(memory, "_in_use", lambda device: 0)
    monkeypatch.setattr(memory, "_peak_of_a_pass", lambda *given: next(peaks) * 2**20)
    monkeypatch.setattr(memory, "available_bytes", lambda device: int(free * 2**20 / 1.6))
    assert fit(accelerator, scored) == chosen


def test_where_not_even_one_row_fits_the_remedies_are_named(accelerator, scored, monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda device: 1000)
    with pytest.raises(UserError, match=r"--microbatch-size auto: a single block .* --gradient-checkpointing"):
        fit(accelerator, scored)


def test_what_was_decided_before_stays(accelerator, scored, monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda device: 1000)
    assert fit(accelerator, scored, before=4) == 4
    with pytest.raises(UserError, match="began with 5, which does not divide --global-batch-size 12"):
        fit(accelerator, scored, before=5)


def test_the_share_of_a_process_is_no_more_than_what_the_machine_has_left(monkeypatch):
    whole = available_bytes(torch.device("cpu"))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert 0 < available_bytes(torch.device("cpu")) < whole / 2


def decide_in_processes(directory: Path) -> None:
    """What the processes below run: the second has less memory than the first."""
    from accelerate import Accelerator
    from transformers import GPT2Config, GPT2LMHeadModel

    accelerator = Accelerator(cpu=True)
    sizes = {"vocab_size": 300, "n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 2}
    scored = ScoredModel(GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0)))
    rank = accelerator.process_index
    memory._in_use = lambda device: 0  # type: ignore[assignment]
    memory._peak_of_a_pass = lambda model, rows, *given: 30 * rows * 2**20  # type: ignore[assignment]
    memory.available_bytes = lambda device: (1000, 150)[rank] * 2**20  # type: ignore[assignment]
    chosen = fit_microbatch(accelerator, scored, block_size=32, global_batch_size=16)
    (directory / str(rank)).write_text(str(chosen))


def test_processes_with_different_memory_agree_on_the_smaller(tmp_path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    subprocess.run([*torchrun, __file__, str(tmp_path)], check=True, timeout=300)
    assert [(tmp_path / rank).read_text() for rank in "01"] == ["4", "4"]


if __name__ == "__main__":
    decide_in_processes(Path(sys.argv[1]))
