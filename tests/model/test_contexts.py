"""What a model is for a while, it is no longer afterwards, however the while ends."""

import pytest
import torch

from textgen.model.contexts import bypassed, evaluating


def test_each_module_gets_its_own_mode_back():
    model = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Dropout()).train()
    model[1].eval()
    with evaluating(model):
        assert not any(module.training for module in model.modules())
    with pytest.raises(KeyError), evaluating(model):
        raise KeyError
    assert [module.training for module in model.modules()] == [True, True, False]


def test_a_bypassed_module_hands_on_what_comes_to_it_and_its_hooks_still_run():
    module, seen = torch.nn.Linear(2, 3), []
    module.register_forward_hook(lambda module, given, output: seen.append(output))
    x = torch.randn(4, 2)
    expected = module(x)
    with bypassed(module):
        assert module(x) is x
    with pytest.raises(KeyError), bypassed(module):
        raise KeyError
    assert torch.equal(module(x), expected)
    assert len(seen) == 3
    with bypassed(module, lambda given: given + 1):
        assert torch.equal(module(x), x + 1)


def test_a_module_whose_forward_was_replaced_before_keeps_that():
    module = torch.nn.Linear(2, 2)
    module.forward = lambda given: given * 2  # as Accelerate's hooks do
    with bypassed(module):
        pass
    assert torch.equal(module(torch.ones(2)), torch.full((2,), 2.0))
