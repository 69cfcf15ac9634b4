"""Models with replaced modules: the same results, names and config."""

import pytest
import torch
from transformers.activations import ACT2FN

from textgen.model.adapters.weights import linear_layers
from textgen.model.kernels.linear import EFFICIENT_MODULES
from textgen.model.kernels.swap_modules import FUSED_ACTIVATIONS, swap_modules


@pytest.mark.parametrize("name", FUSED_ACTIVATIONS)
def test_a_fused_activation_equals_the_one_it_replaces(name):
    x = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    outputs = [ACT2FN[name](inputs[0]), FUSED_ACTIVATIONS[name]()(inputs[1])]
    for output in outputs:
        output.sum().backward()
    torch.testing.assert_close(outputs[1], outputs[0], rtol=0, atol=1e-7)
    torch.testing.assert_close(inputs[1].grad, inputs[0].grad, rtol=0, atol=1e-7)


def test_replacing_modules_changes_neither_results_nor_config(tiny_gpt2):
    ids = torch.arange(24).reshape(2, 12)
    plain, changed = tiny_gpt2(), swap_modules(tiny_gpt2())
    assert isinstance(changed.transformer.h[0].mlp.act, torch.nn.GELU)
    losses = [model(input_ids=ids, labels=ids).loss for model in (plain, changed)]
    for loss in losses:
        loss.backward()
    assert torch.isclose(*losses, rtol=1e-6)
    for (name, p), (other, q) in zip(plain.named_parameters(), changed.named_parameters(), strict=True):
        assert name == other
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-4, atol=1e-6)
    assert changed.config.activation_function == "gelu_new"


@pytest.mark.parametrize(("family", "layers"), [("tiny_gpt2", 8), ("tiny_llama", 14)])
def test_every_linear_layer_is_replaced_and_still_found_as_one(request, family, layers):
    model = request.getfixturevalue(family)()
    before = linear_layers(model)
    after = linear_layers(swap_modules(model))
    assert list(after) == list(before)
    assert len(after) == layers
    assert all(type(layer) in EFFICIENT_MODULES.values() for layer in after.values())


@pytest.mark.parametrize("family", ["tiny_gpt2", "tiny_llama"])
def test_attention_uses_the_kernel_that_does_not_store_its_weights(request, family):
    assert request.getfixturevalue(family)().config._attn_implementation == "sdpa"
