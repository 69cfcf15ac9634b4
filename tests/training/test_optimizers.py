"""Optimizers: parameter groups, updates, and state that a checkpoint restores to the bit."""

from typing import Any, get_args, get_type_hints

import pytest
import torch

from textgen.model.adapters.lora import add_adapters
from textgen.model.config import AdapterConfig
from textgen.training.checkpoint_reader import load_checkpoint
from textgen.training.checkpoints import Checkpoints
from textgen.training.config import TrainingConfig
from textgen.training.optimizers import OPTIMIZERS, build_optimizer, evaluation_weights, parameter_groups
from textgen.training.train_state import TrainState

IDS = torch.arange(40).reshape(2, 20)


def with_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> torch.optim.Optimizer:
    """Sets it as a training step does."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    return optimizer


def names_in(group, model) -> set[str]:
    ids = {id(p) for p in group["params"]}
    return {name for name, p in model.named_parameters() if id(p) in ids}


@pytest.mark.parametrize("family", ["tiny_gpt2", "tiny_llama"])
def test_matrices_and_embeddings_decay_and_vectors_do_not(request, family):
    model = request.getfixturevalue(family)()
    decaying, others = parameter_groups(model, 0.3)
    assert (decaying["weight_decay"], others["weight_decay"]) == (0.3, 0.0)
    assert names_in(decaying, model) == {name for name, p in model.named_parameters() if p.dim() >= 2}
    assert names_in(others, model) == {name for name, p in model.named_parameters() if p.dim() == 1}
    assert all("norm" in name or "ln_" in name or name.endswith("bias") for name in names_in(others, model))
    assert any("embed" in name or "wte" in name for name in names_in(decaying, model))


def test_tied_parameters_are_updated_once_and_frozen_ones_never(tiny_gpt2):
    model = tiny_gpt2()
    model.transformer.wpe.weight.requires_grad = False
    parameters = [p for group in parameter_groups(model, 0.1) for p in group["params"]]
    assert len({id(p) for p in parameters}) == len(parameters) == len(list(model.parameters())) - 1
    adapters = add_adapters(tiny_gpt2(), AdapterConfig(), "base", seed=0)
    decaying, others = parameter_groups(adapters, 0.1)
    assert others["params"] == []
    assert all("lora_" in name for name in names_in(decaying, adapters))


def test_weight_decay_is_decoupled_from_the_gradient(tiny_gpt2):
    model = tiny_gpt2()
    before = {name: p.clone() for name, p in model.named_parameters()}
    optimizer = with_learning_rate(build_optimizer(model, TrainingConfig(weight_decay=0.5)), 0.1)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in model.named_parameters():
        expected = before[name] * (1 - 0.1 * 0.5) if parameter.dim() >= 2 else before[name]
        assert torch.allclose(parameter, expected), name


def test_adamw_by_hand(tiny_gpt2):
    """Loshchilov & Hutter, arXiv 1711.05101, algorithm 2, for one parameter over two steps."""
    model = tiny_gpt2()
    optimizer = with_learning_rate(build_optimizer(model, TrainingConfig(weight_decay=0.1)), 0.01)
    parameter = model.transformer.wpe.weight
    expected, m, v = parameter.detach().double().clone(), 0.0, 0.0
    for step in (1, 2):
        gradient = torch.full_like(parameter, 0.5 / step)
        for other in model.parameters():
            other.grad = torch.zeros_like(other)
        parameter.grad = gradient
        optimizer.step()
        m = 0.9 * m + 0.1 * gradient.double()
        v = 0.99 * v + 0.01 * gradient.double() ** 2
        update = (m / (1 - 0.9**step)) / ((v / (1 - 0.99**step)).sqrt() + 1e-8)
        expected = expected * (1 - 0.01 * 0.1) - 0.01 * update
    assert torch.allclose(parameter.double(), expected, atol=1e-6)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_updates_all_parameters_with_the_weight_decay_of_their_group(tiny_gpt2, name):
    model = tiny_gpt2()
    optimizer = build_optimizer(model, TrainingConfig(optimizer=name, weight_decay=0.25))
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decay == {id(p): 0.25 if p.dim() >= 2 else 0.0 for p in model.parameters()}


def test_every_choice_of_optimizer_has_an_entry():
    assert set(OPTIMIZERS) == set(get_args(get_type_hints(TrainingConfig)["optimizer"]))


def test_the_b_matrices_of_adapters_get_their_multiple_of_the_learning_rate(tiny_gpt2):
    model = add_adapters(tiny_gpt2(), AdapterConfig(), "base", seed=0)
    optimizer = build_optimizer(model, TrainingConfig(), lora_plus_ratio=16.0)
    scales = {id(p): group["lr_scale"] for group in optimizer.param_groups for p in group["params"]}
    found = {name: scales[id(p)] for name, p in model.named_parameters() if p.requires_grad}
    assert found == {name: 16.0 if ".lora_B." in name else 1.0 for name in found}
    assert set(found.values()) == {1.0, 16.0}


def take_steps(model: Any, optimizer: Any, steps: range) -> None:
    for step in steps:
        with_learning_rate(optimizer, 1e-2 / step)
        model(input_ids=IDS, labels=IDS).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_loss_falls_and_a_resumed_run_ends_with_the_same_bits(tiny_gpt2, tmp_path, name):
    """The model is wide enough for 8-bit state, which small tensors do not use."""
    config = TrainingConfig(optimizer=name, schedule="constant")
    model = tiny_gpt2(n_embd=64)
    optimizer = build_optimizer(model, config)
    first = float(model(input_ids=IDS, labels=IDS).loss.detach())
    take_steps(model, optimizer, range(1, 5))
    Checkpoints(tmp_path, model, optimizer, {}, keep=1).save(TrainState(step=4))
    with evaluation_weights(optimizer):
        assert float(model(input_ids=IDS, labels=IDS).loss.detach()) < first - 0.1
    take_steps(model, optimizer, range(5, 8))

    again = tiny_gpt2(seed=1, n_embd=64)
    again_optimizer = build_optimizer(again, config)
    load_checkpoint(tmp_path / "step-00000004", again, again_optimizer)
    take_steps(again, again_optimizer, range(5, 8))
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), again.parameters(), strict=True))


def test_8_bit_state_takes_a_quarter_of_the_memory(tiny_gpt2):
    def state_bytes(name: str) -> int:
        model = tiny_gpt2(n_embd=128)
        optimizer = build_optimizer(model, TrainingConfig(optimizer=name))
        take_steps(model, optimizer, range(1, 2))
        found = {t.data_ptr(): t.nbytes for s in optimizer.state.values() for t in s.values() if torch.is_tensor(t)}
        return sum(found.values())

    assert state_bytes("adamw8bit") < 0.3 * state_bytes("adamw")
