"""A training step: the same result for any microbatches, and no update if it is not finite."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from textgen.data.blocks import GlobalBatches
from textgen.data.token_stream import TokenStream
from textgen.model.loss import ModelWithLoss
from textgen.training.config import TrainingConfig
from textgen.training.optimizers import build_optimizer
from textgen.training.precision import loss_scale
from textgen.training.step import StepResult, seed_everything, training_step

BLOCKS, BLOCK_SIZE = 11, 6
TOKENS = np.random.default_rng(0).integers(0, 300, BLOCKS * (BLOCK_SIZE - 1) - 1).astype(np.uint16)  # last one is short
STREAM = TokenStream(TOKENS, np.array([1]))


def batches(microbatch: int = 4, seed: int = 0) -> GlobalBatches:
    return GlobalBatches(STREAM, block_size=BLOCK_SIZE, global_batch_size=8, microbatch_size=microbatch, seed=seed)


def run(accelerator: Any, model: Any, steps: int, data: GlobalBatches, **changed: Any) -> tuple[list[StepResult], Any]:
    """Train for some steps with AdamW; returns the results and the trained model."""
    model, optimizer = accelerator.prepare(ModelWithLoss(model), build_optimizer(model, TrainingConfig()))
    model.train()
    settings = {"learning_rate": 1e-2, "max_grad_norm": 1.0} | changed
    results = [
        training_step(accelerator, model, optimizer, data, step=step, **settings) for step in range(1, steps + 1)
    ]
    return results, model


def test_microbatches_do_not_change_the_result(accelerator, tiny_gpt2):
    """Weights are compared below, without Adam, which turns the rounding errors of a zero gradient into full steps."""
    expected, _ = run(accelerator, tiny_gpt2(), 4, batches(8))
    for microbatch in (1, 2, 4):
        results, _ = run(accelerator, tiny_gpt2(), 4, batches(microbatch))
        for a, b in zip(expected, results, strict=True):
            assert a.loss == pytest.approx(b.loss, rel=1e-6)
            assert a.grad_norm == pytest.approx(b.grad_norm, rel=1e-5)
            assert a.targets == b.targets


def test_eight_microbatches_of_one_block_and_one_of_eight_give_the_same_weights(accelerator, tiny_gpt2):
    outcomes = []
    for microbatch in (1, 8):
        model = ModelWithLoss(tiny_gpt2())
        optimizer = torch.optim.SGD(model.parameters())
        data = batches(microbatch)
        result = training_step(accelerator, model, optimizer, data, step=2, learning_rate=0.1, max_grad_norm=0.0)
        outcomes.append((result, torch.cat([p.detach().flatten() for p in model.parameters()])))
    (one, weights), (other, other_weights) = outcomes
    assert one.targets == other.targets
    assert one.loss == pytest.approx(other.loss, rel=1e-6)
    assert one.grad_norm == pytest.approx(other.grad_norm, rel=1e-6)
    assert torch.allclose(weights, other_weights, rtol=0, atol=1e-6)


def test_the_loss_is_the_mean_over_all_targets_of_a_ragged_batch(accelerator, tiny_gpt2):
    """Not the mean of the microbatches' means: their numbers of targets differ."""
    data, model = batches(4), ModelWithLoss(tiny_gpt2())
    pieces = list(data.process_share(2, 0, 1))
    counts = [int((piece.labels[:, 1:] != -100).sum()) for piece in pieces]
    assert counts == [8, 5]
    sums = [float(model(piece.input_ids, piece.labels).detach()) for piece in pieces]
    optimizer = torch.optim.SGD(model.parameters())
    result = training_step(accelerator, model, optimizer, data, step=2, learning_rate=0.1, max_grad_norm=0.0)
    assert result.targets == sum(counts) == data.targets(2)
    assert result.loss == pytest.approx(sum(sums) / sum(counts), rel=1e-6)
    means = [s / c for s, c in zip(sums, counts, strict=True)]
    assert abs(result.loss - sum(means) / len(means)) > 1e-4


@pytest.mark.parametrize(("limit", "share"), [(0.0, 1.0), (0.5, 0.5), (2.0, 1.0)])
def test_gradients_are_clipped_and_never_scaled_up(accelerator, tiny_gpt2, limit, share):
    """With plain gradient descent at learning rate 1, the weights change by exactly the clipped gradient."""
    norm = run(accelerator, tiny_gpt2(), 1, batches())[0][0].grad_norm
    model = ModelWithLoss(tiny_gpt2())
    before = torch.cat([p.detach().flatten() for p in model.parameters()])
    optimizer = torch.optim.SGD(model.parameters())
    result = training_step(
        accelerator, model, optimizer, batches(), step=1, learning_rate=1.0, max_grad_norm=limit * norm
    )
    change = torch.cat([p.detach().flatten() for p in model.parameters()]) - before
    assert result.grad_norm == pytest.approx(norm), "the reported norm is before clipping"
    assert float(change.norm()) == pytest.approx(share * norm, rel=1e-4)


def test_a_step_uses_its_learning_rate_and_leaves_no_gradients(accelerator, tiny_gpt2):
    model = ModelWithLoss(tiny_gpt2())
    before = [p.clone() for p in model.parameters()]
    optimizer = torch.optim.SGD(model.parameters(), lr=123.0)
    training_step(accelerator, model, optimizer, batches(), step=1, learning_rate=0.0, max_grad_norm=1.0)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


def test_a_step_depends_on_seed_and_step_and_not_on_earlier_random_numbers(accelerator, tiny_gpt2):
    def weights(noise: int, seed: int = 0) -> torch.Tensor:
        model = tiny_gpt2(resid_pdrop=0.5)
        torch.manual_seed(noise)
        torch.rand(noise)
        data = GlobalBatches(STREAM, block_size=BLOCK_SIZE, global_batch_size=8, microbatch_size=4, seed=0)
        data.indices(1)  # determines the order of blocks, so that the seed changes dropout only
        data.seed = seed
        _, trained = run(accelerator, model, 1, data)
        return torch.cat([p.detach().flatten() for p in trained.parameters()])

    assert torch.equal(weights(noise=1), weights(noise=2))
    assert not torch.equal(weights(noise=1), weights(noise=1, seed=1))


def test_every_key_gives_different_random_numbers():
    draws = []
    for key in ((0, 1, 2), (0, 1, 2), (0, 2, 1), (0, 12), (1, 2), (0, 1, 3)):
        seed_everything(*key)
        draws.append(float(torch.rand(())))
    assert draws[0] == draws[1]
    assert len(set(draws)) == 5


def test_results_are_compared_without_the_time_they_took(accelerator, tiny_gpt2):
    (first,), _ = run(accelerator, tiny_gpt2(), 1, batches())
    (second,), _ = run(accelerator, tiny_gpt2(), 1, batches())
    assert 0 < first.seconds != second.seconds
    assert first == second
    assert first != StepResult(first.loss + 1, first.grad_norm, first.targets, first.seconds)


class Faulty(torch.nn.Module):
    """A model whose loss or gradient is not finite."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(300))
        self.fault = fault

    def forward(self, input_ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        nll = self.weight.sum()
        if self.fault == "none":
            return ((self.weight - 1) ** 2).sum()
        if self.fault == "gradient":  # the square root of zero is zero, with infinite slope
            return nll + (self.weight[0] - self.weight[0].detach()).sqrt()
        return nll * (math.nan if self.fault == "nan" else math.inf)


@pytest.mark.parametrize("fault", ["nan", "inf", "gradient"])
@pytest.mark.parametrize("max_grad_norm", [0.0, 1.0])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_step_with_a_number_that_is_not_finite_changes_nothing_and_the_next_one_goes_on(
    start, fault, max_grad_norm, precision
):
    accelerator = start(precision)
    model = Faulty("none")
    optimizer = accelerator.prepare_optimizer(build_optimizer(model, TrainingConfig()))
    settings = {"learning_rate": 0.1, "max_grad_norm": max_grad_norm}
    assert not training_step(accelerator, model, optimizer, batches(), step=1, **settings).skipped

    def everything() -> list[bytes]:
        tensors = [model.weight, *optimizer.state[model.weight].values()]
        return [tensor.detach().numpy().tobytes() for tensor in tensors]

    before, scale = everything(), loss_scale(accelerator.scaler)
    model.fault = fault
    result = training_step(accelerator, model, optimizer, batches(), step=2, **settings)
    assert result.skipped
    assert math.isfinite(result.loss) == (fault == "gradient")
    assert result.metrics(learning_rate=0.1, targets=40) == (
        ({"train/loss": result.loss} if fault == "gradient" else {})
        | {"train/learning_rate": 0.1, "train/tokens": 40, "train/skipped": 1}
    )
    assert everything() == before
    assert loss_scale(accelerator.scaler) == scale
    assert model.weight.grad is None
    model.fault = "none"
    assert not training_step(accelerator, model, optimizer, batches(), step=3, **settings).skipped
    assert everything() != before


def test_the_metrics_of_a_step_are_its_numbers():
    row = StepResult(2.0, 0.5, 30, 1.0).metrics(learning_rate=0.1, targets=90)
    assert list(row.items()) == [
        ("train/loss", 2.0), ("train/learning_rate", 0.1), ("train/grad_norm", 0.5), ("train/tokens", 90)
    ]  # fmt: skip


def test_the_loss_falls(accelerator, tiny_gpt2):
    results, _ = run(accelerator, tiny_gpt2(), 60, batches())
    assert results[0].loss == pytest.approx(math.log(300), rel=0.02)
    assert results[-1].loss < 0.5 * results[0].loss


def test_a_batch_without_targets_changes_nothing(accelerator, tiny_gpt2):
    """All blocks of a short batch can be parts of long prompts."""
    data = GlobalBatches(
        TokenStream(TOKENS, np.array([1]), np.array([0, len(TOKENS)])),
        block_size=BLOCK_SIZE, global_batch_size=8, microbatch_size=4, seed=0,
    )  # fmt: skip
    model = ModelWithLoss(tiny_gpt2())
    before = [parameter.clone() for parameter in model.parameters()]
    optimizer = torch.optim.SGD(model.parameters())
    result = training_step(accelerator, model, optimizer, data, step=1, learning_rate=0.1, max_grad_norm=1.0)
    assert (result.loss, result.grad_norm) == (0, 0)
    assert all(map(torch.equal, before, model.parameters()))
