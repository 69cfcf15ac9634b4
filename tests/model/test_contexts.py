"""Temporary changes to a model are undone afterwards, also after an exception."""

import pytest
import torch

from textgen.model.contexts import evaluating, identity, override_forward


def test_each_module_returns_to_its_own_mode():
    model = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Dropout()).train()
    model[1].eval()
    with evaluating(model):
        assert not any(module.training for module in model.modules())
    with pytest.raises(KeyError), evaluating(model):
        raise KeyError
    assert [module.training for module in model.modules()] == [True, True, False]


def test_a_module_whose_forward_is_overridden_still_runs_its_hooks():
    module, seen = torch.nn.Linear(2, 3), []
    module.register_forward_hook(lambda module, args, output: seen.append(output))
    x = torch.randn(4, 2)
    expected = module(x)
    with override_forward(module, identity):
        assert module(x) is x
    with pytest.raises(KeyError), override_forward(module, identity):
        raise KeyError
    assert torch.equal(module(x), expected)
    assert len(seen) == 3
    with override_forward(module, lambda x: x + 1):
        assert torch.equal(module(x), x + 1)


def test_an_earlier_override_is_restored():
    module = torch.nn.Linear(2, 2)
    module.forward = lambda x: x * 2  # as Accelerate's hooks do
    with override_forward(module, identity):
        pass
    assert torch.equal(module(torch.ones(2)), torch.full((2,), 2.0))
