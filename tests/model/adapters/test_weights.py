"""The weights that could get an adapter, found by structure."""

from collections import Counter

import pytest
import torch
from tiny_models import CONFIGS, MAMBA, MIXTURES, make, make_empty

from textgen.model.adapters.weights import (
    BYPASSED,
    NOT_EXPERTS,
    REFUSED,
    ROUTER,
    Weight,
    adaptable_weights,
    linear_layers,
)
from textgen.model.config import AdapterConfig

PER_LAYER = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
GPT2_LAYERS = [f"transformer.h.{layer}.{name}" for layer in range(2) for name in PER_LAYER]
LLAMA_LAYERS = [
    f"model.layers.{layer}.{name}"
    for layer in range(2)
    for name in (
        *(f"self_attn.{part}_proj" for part in "qkvo"),
        *(f"mlp.{part}_proj" for part in ("gate", "up", "down")),
    )
]


def found(name: str, **settings: object) -> list[Weight]:
    return adaptable_weights(make(name), AdapterConfig(**settings))  # type: ignore[arg-type]


def left_out(weights: list[Weight]) -> Counter[tuple[str, str]]:
    return Counter((weight.leaf, weight.left_out) for weight in weights if weight.left_out)


def test_linear_layers_are_found_by_type(tiny_gpt2, tiny_llama):
    assert list(linear_layers(tiny_gpt2())) == GPT2_LAYERS
    assert list(linear_layers(tiny_llama())) == LLAMA_LAYERS


@pytest.mark.parametrize(("family", "layers"), [("tiny_gpt2", GPT2_LAYERS), ("tiny_llama", LLAMA_LAYERS)])
def test_every_linear_layer_except_the_head_can_be_adapted(request, family, layers):
    weights = adaptable_weights(request.getfixturevalue(family)(), AdapterConfig())
    assert weights == [Weight(name, "linear layer") for name in layers]


@pytest.mark.parametrize(
    ("name", "stacks", "routers"),
    [
        ("mixtral", {"gate_up_proj": 2, "down_proj": 2}, {"gate": 2}),
        ("qwen2_moe", {"gate_up_proj": 1, "down_proj": 1}, {"gate": 1}),
        ("qwen3_moe", {"gate_up_proj": 2, "down_proj": 2}, {"gate": 2}),
        ("gpt_oss", {"gate_up_proj": 2, "down_proj": 2}, {"router": 2}),
        ("deepseek_v3", {"gate_up_proj": 1, "down_proj": 1}, {"gate": 1}),
        ("llama4_text", {"gate_up_proj": 1, "down_proj": 1}, {"router": 1}),
        ("jetmoe", {"input_linear": 4, "output_linear": 4}, {"layer": 4}),
    ],
)
def test_stacks_of_experts_can_be_adapted_and_routers_are_left_out(name, stacks, routers):
    assert len(MIXTURES) == 7
    weights = found(name)
    assert Counter(w.leaf for w in weights if w.kind == "stack of experts" and not w.left_out) == stacks
    assert left_out(weights) == {(leaf, ROUTER): count for leaf, count in routers.items()}
    parameters = dict(make(name).named_parameters())
    assert all(parameters[w.parameter].ndim == 3 for w in weights if w.kind == "stack of experts")


def test_layers_that_peft_takes_for_experts_are_adapted_by_the_names_of_their_weights():
    by_name = [w for w in found("deepseek_v3") if w.kind == "linear layer" and w.parameter]
    assert [w.name for w in by_name] == [
        *(f"model.layers.0.mlp.{part}_proj" for part in ("gate", "up", "down")),
        *(f"model.layers.1.mlp.shared_experts.{part}_proj" for part in ("gate", "up", "down")),
    ]
    assert [w.parameter for w in by_name] == [f"{w.name}.weight" for w in by_name]
    assert not any(w.left_out for w in by_name)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"lora_dropout": 0.1}, "without --lora-dropout (given: 0.1)"),
        ({"lora_variant": "dora"}, "with --lora-variant lora or rslora (given: dora)"),
        ({"lora_variant": "pissa"}, "with --lora-variant lora or rslora (given: pissa)"),
    ],
)
def test_what_peft_cannot_do_by_name_is_left_out_with_the_setting_that_prevents_it(settings, reason):
    weights = found("deepseek_v3", **settings)
    impossible = [w for w in weights if not w.possible]
    assert Counter(w.kind for w in impossible) == {"linear layer": 6, "stack of experts": 2, "router": 1}
    assert all(str(w.left_out).endswith(reason) for w in impossible)
    assert [w.leaf for w in weights if w.possible][:2] == ["q_a_proj", "q_b_proj"]


def test_quantized_layers_that_peft_takes_for_experts_are_left_out():
    model = make("deepseek_v3")
    layer = model.model.layers[0].mlp.gate_proj
    layer.weight = torch.nn.Parameter(layer.weight.detach().to(torch.int8), requires_grad=False)
    layer.forward = lambda x: x.new_zeros(*x.shape[:-1], 48)
    impossible = [w for w in adaptable_weights(model, AdapterConfig()) if not w.possible]
    assert [w.name for w in impossible] == ["model.layers.0.mlp.gate_proj"]
    assert "quantized" in str(impossible[0].left_out)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mamba", {("dt_proj", BYPASSED): 2, ("out_proj", REFUSED): 2}),
        ("mamba2", {("out_proj", REFUSED): 2}),
        ("falcon_h1", {("out_proj", REFUSED): 2}),
    ],
)
def test_layers_whose_weight_is_read_without_calling_them_are_left_out(name, expected):
    assert len(MAMBA) == 3
    assert left_out(found(name)) == expected


def test_a_subclass_is_linear_if_it_returns_what_a_linear_layer_does(tiny_llama):
    assert not left_out(found("falcon")), "FalconLinear computes its product in its own way"

    class WithScores(torch.nn.Linear):
        def forward(self, input: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return super().forward(input), input

    model = tiny_llama()
    model.model.layers[1].self_attn.q_proj.__class__ = WithScores
    model.model.layers[1].self_attn.forward = lambda hidden_states, **_: (hidden_states, None)
    weights = adaptable_weights(model, AdapterConfig())
    assert [w.name for w in weights if not w.possible] == ["model.layers.1.self_attn.q_proj"]


def test_other_stacked_matrices_are_left_out_and_named():
    assert left_out(found("recurrent_gemma")) == {
        ("input_gate_weight", NOT_EXPERTS): 2, ("recurrent_gate_weight", NOT_EXPERTS): 2,
    }  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
def test_a_model_without_values_tells_the_same(name):
    assert adaptable_weights(make_empty(name), AdapterConfig()) == found(name)


def test_looking_changes_nothing(tiny_llama):
    model = tiny_llama().train()
    before = {name: p.clone() for name, p in model.named_parameters()}
    adaptable_weights(model, AdapterConfig())
    assert model.training
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert all(torch.equal(p, before[name]) and p.grad is None for name, p in model.named_parameters())
