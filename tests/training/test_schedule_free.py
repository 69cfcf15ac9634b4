"""Schedule-free AdamW compared with the paper's three sequences, computed by hand, and with the authors' package."""

import pytest
import schedulefree
import torch

from textgen.training.config import TrainingConfig
from textgen.training.optimizers import build_optimizer, evaluation_weights
from textgen.training.schedule_free import ScheduleFreeAdamW

RATES = [0.02, 0.05, 0.05, 0.05, 0.05]


def gradient(at: torch.Tensor) -> torch.Tensor:
    return 2 * (at - torch.tensor([1.0, -2.0, 3.0]))


def by_hand(steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(x, y) after some steps: equations 2 to 4 of arXiv 2405.15682 with an AdamW step for z, in float64.

    Weight decay is applied at y, and z_t has weight max(rate)² in the average, as in the authors' implementation.
    """
    beta1, beta2, eps, decay = 0.9, 0.99, 1e-8, 0.1
    x = z = torch.zeros(3, dtype=torch.float64)
    moment, weight_sum, highest = torch.zeros(3, dtype=torch.float64), 0.0, 0.0
    for t, rate in enumerate(RATES[:steps], start=1):
        y = (1 - beta1) * z + beta1 * x
        g = gradient(y)
        moment = beta2 * moment + (1 - beta2) * g**2
        z = z - rate * (g / ((moment / (1 - beta2**t)).sqrt() + eps) + decay * y)
        highest = max(highest, rate)
        weight_sum += highest**2
        share = highest**2 / weight_sum
        x = (1 - share) * x + share * z
    return x, (1 - beta1) * z + beta1 * x


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_steps_follow_the_papers_sequences(steps):
    p = torch.nn.Parameter(torch.zeros(3))
    optimizer = ScheduleFreeAdamW([{"params": [p], "weight_decay": 0.1}], lr=0.1, betas=(0.9, 0.99), eps=1e-8)
    for rate in RATES[:steps]:
        optimizer.param_groups[0]["lr"] = rate
        p.grad = gradient(p.detach())
        optimizer.step()
    x, y = by_hand(steps)
    torch.testing.assert_close(p.detach().double(), y, rtol=1e-5, atol=1e-6)
    with evaluation_weights(optimizer):
        torch.testing.assert_close(p.detach().double(), x, rtol=1e-5, atol=1e-6)


def test_steps_and_averages_are_those_of_the_authors_package():
    torch.manual_seed(0)
    start = torch.randn(20, 30)
    mine, theirs = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    optimizer = ScheduleFreeAdamW([{"params": [mine], "weight_decay": 0.1}], lr=0.02, betas=(0.9, 0.99), eps=1e-8)
    reference = schedulefree.AdamWScheduleFree(
        [theirs], lr=0.02, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.1, foreach=False
    )
    reference.train()
    for _ in range(10):
        gradients = torch.randn(20, 30)
        for p, each in ((mine, optimizer), (theirs, reference)):
            p.grad = gradients.clone()
            each.step()
        assert torch.equal(mine, theirs)
    reference.eval()
    with evaluation_weights(optimizer):
        assert torch.equal(mine, theirs)


def test_evaluating_does_not_change_the_training_weights():
    torch.manual_seed(0)
    p = torch.nn.Parameter(torch.randn(50))
    optimizer = ScheduleFreeAdamW([{"params": [p], "weight_decay": 0.0}], lr=0.1, betas=(0.9, 0.99), eps=1e-8)
    with evaluation_weights(optimizer):
        pass  # before the first step, there is no average
    for _ in range(4):
        p.grad = torch.randn(50)
        optimizer.step()
    before = p.detach().clone()

    def interrupted() -> None:
        with evaluation_weights(optimizer):
            assert not torch.equal(p, before)
            raise KeyError

    with pytest.raises(KeyError):
        interrupted()
    assert torch.equal(p, before)


def test_other_optimizers_have_one_set_of_weights(tiny_gpt2):
    model = tiny_gpt2()
    optimizer = build_optimizer(model, TrainingConfig())
    before = [p.clone() for p in model.parameters()]
    with evaluation_weights(optimizer):
        assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))


def test_a_decaying_learning_rate_is_refused():
    [problem] = TrainingConfig(optimizer="schedule_free").problems(1)
    assert problem.startswith("--optimizer schedule_free with --schedule cosine")
    assert TrainingConfig(optimizer="schedule_free", schedule="constant").problems(1) == []
