"""The repeated layers of a model, gradient checkpointing and compilation."""

import pytest
import torch

from textgen.errors import UserError
from textgen.model.adapters.lora import add_adapters
from textgen.model.config import AdapterConfig
from textgen.model.layers import compile_blocks, enable_gradient_checkpointing, transformer_blocks
from textgen.model.loss import ModelWithLoss

IDS = torch.arange(40).reshape(2, 20)


def gradients(model: torch.nn.Module, seed: int = 1) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    scored = ModelWithLoss(model).train()
    torch.manual_seed(seed)
    scored(IDS, IDS).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("family", "block"), [("tiny_gpt2", "GPT2Block"), ("tiny_llama", "LlamaDecoderLayer")])
def test_repeated_layers_are_found_by_structure_with_and_without_adapters(request, family, block):
    make = request.getfixturevalue(family)
    for model in (make(), add_adapters(make(), AdapterConfig(), "base", seed=0)):
        assert [type(b).__name__ for b in transformer_blocks(model)] == [block] * 2
        assert ModelWithLoss(model)._no_split_modules == [block]
    assert transformer_blocks(torch.nn.Linear(2, 2)) == []


@pytest.mark.parametrize("adapted", [False, True])
def test_gradient_checkpointing_changes_no_bit_of_a_gradient(tiny_gpt2, adapted):
    """With dropout, which must be the same in the recomputation; and the adapters' B matrices must get gradients."""
    found = []
    for checkpointing in (False, True):
        model = tiny_gpt2(resid_pdrop=0.3)
        if adapted:
            model = add_adapters(model, AdapterConfig(lora_dropout=0.2), "base", seed=0)
        if checkpointing:
            enable_gradient_checkpointing(model)
        found.append(gradients(model))
    plain, checkpointed = found
    assert plain.keys() == checkpointed.keys()
    assert all(torch.equal(plain[name], checkpointed[name]) for name in plain)
    assert all(g.any() for name, g in checkpointed.items() if ".lora_B." in name)


def test_gradient_checkpointing_stores_fewer_activations(tiny_gpt2):
    def stored_numbers(model: torch.nn.Module) -> int:
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            ModelWithLoss(model).train()(IDS, IDS)
        return sum(sizes)

    plain, checkpointed = tiny_gpt2(), tiny_gpt2()
    enable_gradient_checkpointing(checkpointed)
    assert stored_numbers(checkpointed) < 0.5 * stored_numbers(plain)


def test_gradient_checkpointing_of_an_unsupported_model_is_refused():
    with pytest.raises(UserError, match="--gradient-checkpointing: Linear does not support it"):
        enable_gradient_checkpointing(torch.nn.Linear(2, 2))


def test_no_gradient_is_computed_below_the_lowest_adapter(tiny_gpt2):
    model = add_adapters(tiny_gpt2(), AdapterConfig(lora_targets="h.1.mlp.c_fc"), "base", seed=0)
    entering = []
    for block in transformer_blocks(model):
        block.register_forward_pre_hook(lambda module, args: entering.append(args[0].requires_grad))
    found = gradients(model)
    assert entering[-2:] == [False, False], "no gradient reaches the embedding or the first layer"
    assert len(found) == 2


@pytest.mark.slow
def test_compiled_layers_give_the_same_gradients_under_the_same_names(tiny_gpt2):
    plain, compiled = tiny_gpt2(), tiny_gpt2()
    compile_blocks(compiled)
    expected, found = gradients(plain), gradients(compiled)
    assert expected.keys() == found.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-5)


def test_compiling_a_model_without_repeated_layers_is_refused():
    with pytest.raises(UserError, match="--compile: Linear has no list of layers"):
        compile_blocks(torch.nn.Linear(2, 2))
