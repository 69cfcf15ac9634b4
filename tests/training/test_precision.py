"""Choosing the precision for a device, and loss scaling with fp16."""

import math
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
import torch

from textgen.data.blocks import GlobalBatches
from textgen.data.token_stream import TokenStream
from textgen.model.loss import ModelWithLoss
from textgen.training.config import EngineConfig, TrainingConfig
from textgen.training.distributed.processes import precision_of
from textgen.training.optimizers import build_optimizer
from textgen.training.precision import COMPUTE_DTYPES, describe, loss_scale, resolve_precision, restore_loss_scale
from textgen.training.prepare import wrap
from textgen.training.step import training_step

TOKENS = np.random.default_rng(0).integers(0, 300, 200).astype(np.uint16)
STREAM = TokenStream(TOKENS, np.array([1]))


@pytest.mark.parametrize("instructions", [[], ["avx512_bf16"], ["amx_bf16"]])
def test_auto_is_fp32_on_a_cpu_with_a_hint_if_bf16_is_faster(monkeypatch, instructions):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(instructions, True))
    assert resolve_precision("auto", "cpu") == "fp32"
    assert ("--precision bf16" in describe("fp32", "auto", "cpu")) == bool(instructions)
    assert describe("fp32", "fp32", "cpu") == "fp32", "no hint for an explicit choice"
    assert describe("bf16", "auto", "cuda") == "bf16"


@pytest.mark.parametrize(("native", "expected"), [(True, "bf16"), (False, "fp16")])
def test_auto_is_what_a_gpu_supports_natively(monkeypatch, native, expected):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native)
    assert resolve_precision("auto", "cuda") == expected


def test_an_explicit_precision_is_used():
    for requested in COMPUTE_DTYPES:
        assert resolve_precision(requested, "cpu") == requested
    assert {"auto", *COMPUTE_DTYPES} == set(get_args(get_type_hints(EngineConfig)["precision"]))


def run(accelerator: Any, model: Any, steps: range, scale: Any = None) -> list[Any]:
    scored, optimizer = wrap(accelerator, ModelWithLoss(model), build_optimizer(model, TrainingConfig()))
    restore_loss_scale(accelerator.scaler, scale)
    data = GlobalBatches(STREAM, block_size=16, global_batch_size=4, microbatch_size=2, seed=0)
    scored.train()
    return [
        training_step(accelerator, scored, optimizer, data, step=step, learning_rate=3e-3, max_grad_norm=1.0)
        for step in steps
    ]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_losses_in_low_precision_are_close_to_those_in_fp32(start, tiny_gpt2, precision):
    expected = run(start("fp32"), tiny_gpt2(), range(1, 7))
    accelerator, model = start(precision), tiny_gpt2()
    assert precision_of(accelerator) == precision
    seen: list[torch.dtype] = []
    model.transformer.h[0].mlp.c_fc.register_forward_hook(lambda module, args, out: seen.append(out.dtype))
    found = run(accelerator, model, range(1, 7))
    assert set(seen) <= {COMPUTE_DTYPES[precision], torch.float32}
    assert seen[-1] == COMPUTE_DTYPES[precision]
    for a, b in zip(expected, found, strict=True):
        assert b.loss == pytest.approx(a.loss, rel=5e-3)
        assert b.grad_norm == pytest.approx(a.grad_norm, rel=0.05)
    assert all(p.dtype == torch.float32 for p in model.parameters())


def test_a_step_whose_scaled_gradients_overflow_is_repeated_and_not_skipped(start, tiny_gpt2):
    without_overflow = start("fp16")
    expected = run(without_overflow, tiny_gpt2(), range(1, 4), scale=(1024.0, 0))
    assert loss_scale(without_overflow.scaler) == (1024.0, 3)
    accelerator, model = start("fp16"), tiny_gpt2()
    found = run(accelerator, model, range(1, 4), scale=(2.0**40, 0))
    scale, steps = loss_scale(accelerator.scaler) or (0, 0)
    assert scale < 2.0**40
    assert steps == 3, "no step was skipped"
    for a, b in zip(expected, found, strict=True):
        assert math.isfinite(b.grad_norm)
        assert b.loss == pytest.approx(a.loss, rel=1e-3)


def test_without_fp16_there_is_no_loss_scale(start):
    accelerator = start("fp32")
    assert loss_scale(accelerator.scaler) is None
    restore_loss_scale(accelerator.scaler, (8.0, 1))  # a checkpoint of another precision is refused before this


def test_a_loss_that_is_nan_is_not_blamed_on_the_scale(start, tiny_gpt2):
    model = tiny_gpt2()
    with torch.no_grad():
        model.transformer.wpe.weight[0] = math.nan
    accelerator = start("fp16")
    before = loss_scale(accelerator.scaler)
    [result] = run(accelerator, model, range(1, 2))
    assert result.skipped
    assert loss_scale(accelerator.scaler) == before
