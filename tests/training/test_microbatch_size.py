"""The largest microbatch that fits into memory, decided by all processes together."""

import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from textgen.errors import UserError
from textgen.model.loss import ModelWithLoss
from textgen.training import microbatch_size
from textgen.training.config import TrainingConfig, microbatch_sizes
from textgen.training.microbatch_size import (
    MARGIN,
    available_bytes,
    fit_microbatch_size,
    largest_that_fits,
    resolve_microbatch_size,
)

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
    optimizer_state=st.integers(0, 10**6),
    available=st.integers(0, 10**8),
    global_batch=sizes,
)
def test_the_largest_fits_and_the_next_does_not(row, fixed, optimizer_state, available, global_batch):
    candidates = microbatch_sizes(global_batch, 1)
    chosen = largest_that_fits(
        candidates,
        one_row=fixed + row,
        two_rows=fixed + 2 * row,
        optimizer_state=optimizer_state,
        available=available,
    )
    usable = available * (1 - MARGIN)
    fixed += optimizer_state
    if chosen is None:
        assert fixed + row > usable
        return
    assert fixed + chosen * row <= usable
    assert all(fixed + size * row > usable for size in candidates if size > chosen)


@pytest.fixture
def scored(tiny_gpt2) -> ModelWithLoss:
    return ModelWithLoss(tiny_gpt2())


def fit(accelerator, scored, **options) -> int:
    return fit_microbatch_size(accelerator, scored, block_size=32, global_batch_size=12, **options)


def test_with_enough_memory_the_whole_batch_is_one_microbatch(accelerator, scored):
    assert fit(accelerator, scored) == 12


def test_measuring_changes_neither_the_model_nor_the_random_state(accelerator, scored):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    scored.eval()
    fit(accelerator, scored)
    assert torch.equal(torch.rand(2), expected)
    assert not scored.training
    assert all(p.grad is None for p in scored.parameters())


def test_measured_memory_grows_with_the_number_of_rows(accelerator, tiny_gpt2):
    """With a model whose activations are large compared with the other memory of the process."""
    wide = ModelWithLoss(tiny_gpt2(n_embd=256, n_positions=512))
    start = microbatch_size._memory_in_use(accelerator.device)
    few, many = (microbatch_size._peak_memory_of_pass(wide, rows, 512, accelerator) - start for rows in (2, 16))
    assert many > few + 50 * 2**20


@pytest.mark.parametrize(("free", "chosen"), [(200, 3), (10**6, 12)])
def test_the_available_memory_decides(accelerator, scored, monkeypatch, free, chosen):
    peaks = iter([0, 30, 60])  # the first pass warms up
    monkeypatch.setattr(microbatch_size, "_memory_in_use", lambda device: 0)
    monkeypatch.setattr(microbatch_size, "_peak_memory_of_pass", lambda *args: next(peaks) * 2**20)
    monkeypatch.setattr(microbatch_size, "available_bytes", lambda device: int(free * 2**20 / 1.6))
    assert fit(accelerator, scored) == chosen


def test_if_not_even_one_row_fits_the_message_names_remedies(accelerator, scored, monkeypatch):
    monkeypatch.setattr(microbatch_size, "available_bytes", lambda device: 1000)
    with pytest.raises(UserError, match=r"--microbatch-size auto: one block .* --gradient-checkpointing"):
        fit(accelerator, scored)


def test_memory_that_is_freed_meanwhile_does_not_make_a_pass_free(accelerator, scored, monkeypatch):
    monkeypatch.setattr(microbatch_size, "available_bytes", lambda device: 1000)
    monkeypatch.setattr(microbatch_size, "_memory_in_use", lambda device: 2**40)
    with pytest.raises(UserError, match="one block"):
        fit(accelerator, scored)


def test_a_resumed_run_keeps_its_size(accelerator, scored, monkeypatch):
    monkeypatch.setattr(microbatch_size, "available_bytes", lambda device: 1000)
    assert fit(accelerator, scored, previous=4) == 4
    with pytest.raises(UserError, match="started with 5, which does not divide --global-batch-size 12"):
        fit(accelerator, scored, previous=5)


def test_processes_of_one_machine_share_its_memory(monkeypatch):
    whole = available_bytes(torch.device("cpu"))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert 0 < available_bytes(torch.device("cpu")) < whole / 2


def test_a_given_size_is_used_without_measuring(accelerator, tiny_gpt2, monkeypatch):
    monkeypatch.setattr(microbatch_size, "available_bytes", lambda device: 0)
    training = TrainingConfig(global_batch_size=12, microbatch_size=3)
    assert resolve_microbatch_size(accelerator, tiny_gpt2(), training, block_size=32, previous=4) == 3


@pytest.mark.parametrize(("previous", "size"), [(None, 12), (4, 4)])
def test_auto_is_resolved_to_a_number_and_printed(accelerator, tiny_gpt2, capsys, previous, size):
    training = TrainingConfig(global_batch_size=12, microbatch_size="auto")
    assert resolve_microbatch_size(accelerator, tiny_gpt2(), training, block_size=32, previous=previous) == size
    assert capsys.readouterr().out == f"--microbatch-size auto: {size}\n"


def decide_in_processes(directory: Path) -> None:
    """Runs in each process of the test below; the second has less memory than the first."""
    from accelerate import Accelerator
    from transformers import GPT2Config, GPT2LMHeadModel

    accelerator = Accelerator(cpu=True)
    sizes = {"vocab_size": 300, "n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 2}
    scored = ModelWithLoss(GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0)))
    rank = accelerator.process_index
    microbatch_size._memory_in_use = lambda device: 0  # type: ignore[assignment]
    microbatch_size._peak_memory_of_pass = lambda model, rows, *args: 30 * rows * 2**20  # type: ignore[assignment]
    microbatch_size.available_bytes = lambda device: (1000, 150)[rank] * 2**20  # type: ignore[assignment]
    chosen = fit_microbatch_size(accelerator, scored, block_size=32, global_batch_size=16)
    (directory / str(rank)).write_text(str(chosen))


def test_processes_with_different_memory_agree_on_the_smaller_size(python, tmp_path):
    python.run([__file__, tmp_path], processes=2, check=True)
    assert [(tmp_path / rank).read_text() for rank in "01"] == ["4", "4"]


if __name__ == "__main__":
    decide_in_processes(Path(sys.argv[1]))
