"""The weights that get an adapter: --lora-targets, and how the choice is described."""

import pytest
from test_weights import GPT2_LAYERS
from tiny_models import make, make_empty

from textgen.errors import UserError
from textgen.model.adapters.targets import AdapterTargets, find_targets, shorten
from textgen.model.config import AdapterConfig


def targets(model: object, names: str = "auto", **settings: object) -> AdapterTargets:
    return find_targets(model, AdapterConfig(lora_targets=names, **settings))  # type: ignore[arg-type]


def test_auto_is_every_weight_that_can_be_adapted_except_routers():
    found = targets(make("mixtral"))
    layers = [f"model.layers.{i}.self_attn.{part}_proj" for i in range(2) for part in "qkvo"]
    assert found.modules() == layers
    assert found.parameters() == [
        f"model.layers.{i}.mlp.experts.{part}_proj" for i in range(2) for part in ("gate_up", "down")
    ]
    assert [weight.name for weight in found.left_out] == ["model.layers.0.mlp.gate", "model.layers.1.mlp.gate"]


@pytest.mark.parametrize(
    ("names", "layers"),
    [
        ("c_attn", GPT2_LAYERS[::4]),
        ("attn.c_proj", GPT2_LAYERS[1::4]),
        ("c_proj", GPT2_LAYERS[1::2]),
        (" c_attn , mlp.c_fc ", [name for name in GPT2_LAYERS if name.endswith(("c_attn", "c_fc"))]),
        ("transformer.h.1.mlp.c_fc", ["transformer.h.1.mlp.c_fc"]),
    ],
)
def test_a_target_matches_the_layers_whose_names_end_in_it(tiny_gpt2, names, layers):
    found = targets(tiny_gpt2(), names)
    assert (found.modules(), found.parameters(), found.left_out) == (layers, [], ())


@pytest.mark.parametrize("names", ["q_proj", "c_attn,q_proj", "attn", "proj", "lm_head", "wte", ",", ""])
def test_a_target_that_matches_no_layer_is_refused_with_the_names_that_exist(tiny_gpt2, names):
    with pytest.raises(UserError) as caught:
        targets(tiny_gpt2(), names)
    message = str(caught.value)
    assert message.startswith("--lora-targets ")
    assert "It has: c_attn, c_fc, c_proj." in message
    assert "c_attn:" not in message, "valid names are not listed as wrong"


def test_experts_and_routers_can_be_named():
    found = targets(make("mixtral"), "experts.gate_up_proj,1.mlp.gate")
    assert found.parameters() == [
        "model.layers.0.mlp.experts.gate_up_proj", "model.layers.1.mlp.gate.weight",
        "model.layers.1.mlp.experts.gate_up_proj",
    ]  # fmt: skip
    assert found.modules() == []


@pytest.mark.parametrize(
    ("name", "names", "settings", "reason"),
    [
        ("mamba", "out_proj", {}, "2 linear layers (out_proj 2): refused by peft"),
        ("mamba", "in_proj,dt_proj", {}, "2 linear layers (dt_proj 2): the model reads the weight without"),
        ("mixtral", "gate_up_proj", {"lora_dropout": 0.5}, "2 stacks of experts (gate_up_proj 2): peft adapts"),
        ("recurrent_gemma", "input_gate_weight", {}, "2 stacked weights (input_gate_weight 2): stacked matrices"),
    ],
)
def test_a_target_that_cannot_be_adapted_is_refused_with_the_reason(name, names, settings, reason):
    with pytest.raises(UserError) as caught:
        targets(make_empty(name), names, **settings)
    message = str(caught.value)
    assert message.startswith(f"--lora-targets {names.rpartition(',')[2]}: no adapter can be added to {reason}")
    assert "Use auto, or other names" in message


def test_all_problems_with_names_are_reported_together():
    with pytest.raises(UserError) as caught:
        targets(make_empty("mamba"), "q_proj,out_proj,dt_proj")
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        "--lora-targets q_proj", "--lora-targets out_proj", "--lora-targets dt_proj",
    ]  # fmt: skip


def test_the_description_counts_what_is_adapted_and_says_why_the_rest_is_not():
    found = targets(make("mamba"))
    assert str(found) == (
        "adapters on 4 linear layers (in_proj 2, x_proj 2); none on 2 linear layers (dt_proj 2): the model reads the "
        "weight without calling the layer, which would skip an adapter; none on 2 linear layers (out_proj 2): refused "
        "by peft, since fused kernels of this architecture read the weight without calling the layer"
    )
    mixture = targets(make("llama4_text"))
    assert str(mixture) == (
        "adapters on 14 linear layers (q_proj 2, k_proj 2, v_proj 2, o_proj 2, gate_proj 2, up_proj 2, down_proj 2) "
        "and 2 stacks of experts (gate_up_proj 1, down_proj 1); none on 1 router (router 1): the choice of experts "
        "stays as it was pretrained, as is usual"
    )
    assert mixture.facts() == {
        "adapted": {
            "linear layer": dict.fromkeys([f"{part}_proj" for part in ("q", "k", "v", "o", "gate", "up", "down")], 2),
            "stack of experts": {"gate_up_proj": 1, "down_proj": 1},
        },
        "not_adapted": [
            {"router": {"router": 1}, "reason": "the choice of experts stays as it was pretrained, as is usual"}
        ],
    }


def test_a_model_that_cannot_be_adapted_is_refused(tiny_llama):
    model = tiny_llama()
    model.model.layers = model.model.layers[:0]
    with pytest.raises(UserError, match="no weight of the model can get an adapter"):
        targets(model)


def test_names_are_shortened_if_they_match_nothing_else():
    names = ["a.0.x", "a.1.x", "a.1.y"]
    assert shorten(["a.0.x", "a.1.x"], names) == ["x"]
    assert shorten(["a.0.x"], names) == ["a.0.x"]
    assert shorten(["a.0.x"], names, parts=2) == ["0.x"]
    assert shorten([], names) == []
