"""Adapters: the layers that get one, training them without changing the base, and their variants."""

import subprocess
import sys
from typing import Any, get_args, get_type_hints

import peft
import pytest
import torch

from textgen.errors import UserError
from textgen.model.config import AdapterConfig
from textgen.model.lora import VARIANTS, adapter_targets, add_adapters, as_plain_lora, linear_layers
from textgen.training.config import TrainingConfig
from textgen.training.optimizers import build_optimizer

IDS = torch.arange(20).reshape(2, 10)
GPT2_LAYERS = [
    f"transformer.h.{layer}.{name}"
    for layer in range(2)
    for name in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
]
LLAMA_LAYERS = [
    f"model.layers.{layer}.{name}"
    for layer in range(2)
    for name in (
        *(f"self_attn.{part}_proj" for part in "qkvo"),
        *(f"mlp.{part}_proj" for part in ("gate", "up", "down")),
    )
]


def adapted_layers(model) -> list[str]:
    """The layers that have an adapter, by their names in the base model."""
    names = (name for name, _ in model.named_modules() if name.endswith(".lora_A"))
    return [name.removeprefix("base_model.model.").removesuffix(".lora_A") for name in names]


def test_linear_layers_are_found_by_type(tiny_gpt2, tiny_llama):
    assert list(linear_layers(tiny_gpt2())) == GPT2_LAYERS
    assert list(linear_layers(tiny_llama())) == LLAMA_LAYERS


@pytest.mark.parametrize(("family", "layers"), [("tiny_gpt2", GPT2_LAYERS), ("tiny_llama", LLAMA_LAYERS)])
def test_auto_adapts_every_linear_layer_except_the_head(request, family, layers):
    model = add_adapters(request.getfixturevalue(family)(), AdapterConfig(), "base", seed=0)
    assert adapted_layers(model) == layers


@pytest.mark.parametrize(
    ("targets", "layers"),
    [
        ("c_attn", GPT2_LAYERS[::4]),
        ("attn.c_proj", GPT2_LAYERS[1::4]),
        ("c_proj", GPT2_LAYERS[1::2]),
        (" c_attn , mlp.c_fc ", [name for name in GPT2_LAYERS if name.endswith(("c_attn", "c_fc"))]),
        ("transformer.h.1.mlp.c_fc", ["transformer.h.1.mlp.c_fc"]),
    ],
)
def test_a_target_matches_the_layers_whose_names_end_in_it(tiny_gpt2, targets, layers):
    assert adapter_targets(tiny_gpt2(), targets) == layers
    model = add_adapters(tiny_gpt2(), AdapterConfig(lora_targets=targets), "base", seed=0)
    assert adapted_layers(model) == layers


@pytest.mark.parametrize("targets", ["q_proj", "c_attn,q_proj", "attn", "proj", "lm_head", "wte", ",", ""])
def test_a_target_that_matches_no_layer_is_refused_with_the_names_that_exist(tiny_gpt2, targets):
    with pytest.raises(UserError) as caught:
        adapter_targets(tiny_gpt2(), targets)
    message = str(caught.value)
    assert message.startswith("--lora-targets ")
    assert "It has: c_attn, c_fc, c_proj." in message
    assert "c_attn:" not in message, "valid names are not listed as wrong"


@pytest.mark.parametrize("family", ["tiny_gpt2", "tiny_llama"])
def test_training_changes_every_adapter_and_not_the_base(request, family):
    base = request.getfixturevalue(family)()
    before = {name: p.clone() for name, p in base.named_parameters()}
    model = add_adapters(base, AdapterConfig(), "base", seed=0)
    trainable = {name: p.clone() for name, p in model.named_parameters() if p.requires_grad}
    assert trainable
    assert all("lora_" in name for name in trainable)
    optimizer = build_optimizer(model, TrainingConfig(learning_rate=0.01))
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(trainable)
    for _ in range(2):  # the first step changes the B matrices, which start at zero; the second one all
        model(input_ids=IDS, labels=IDS).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    after = dict(model.named_parameters())
    assert not [name for name, p in trainable.items() if torch.equal(p, after[name])]
    with model.disable_adapter():
        merged = {name.replace("base_model.model.", "").replace("base_layer.", ""): p for name, p in after.items()}
    for name, parameter in before.items():
        assert torch.equal(parameter, merged[name]), name


def test_new_adapters_do_not_change_the_logits(tiny_gpt2):
    with torch.no_grad():
        expected = tiny_gpt2().eval()(input_ids=IDS).logits
        model = add_adapters(tiny_gpt2(), AdapterConfig(), "base", seed=0)
        assert torch.equal(model.eval()(input_ids=IDS).logits, expected)


def test_adapters_have_the_rank_scale_dropout_and_seed_of_the_settings(tiny_gpt2):
    config = AdapterConfig(lora_rank=3, lora_alpha=1.5, lora_dropout=0.25, lora_targets="c_attn")
    one, same, other = (add_adapters(tiny_gpt2(), config, "base", seed=seed) for seed in (0, 0, 1))
    layer = one.base_model.model.transformer.h[0].attn.c_attn
    assert layer.lora_A["default"].weight.shape == (3, 32)
    assert layer.lora_B["default"].weight.shape == (96, 3)
    assert layer.scaling["default"] == 0.5
    assert layer.lora_dropout["default"].p == 0.25
    weights = [m.base_model.model.transformer.h[0].attn.c_attn.lora_A["default"].weight for m in (one, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_the_adapter_records_its_base_and_whether_weights_are_transposed(tiny_gpt2, tiny_llama):
    for model, transposed in ((tiny_gpt2(), True), (tiny_llama(), False)):
        config = add_adapters(model, AdapterConfig(), "some/base", seed=0).peft_config["default"]
        assert config.base_model_name_or_path == "some/base"
        assert config.fan_in_fan_out is transposed


def trained(model: Any, steps: int = 3) -> Any:
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.05)
    ids = torch.arange(40).reshape(2, 20)
    for _ in range(steps):
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


def test_every_variant_has_an_entry():
    assert set(VARIANTS) == set(get_args(get_type_hints(AdapterConfig)["lora_variant"]))


@pytest.mark.parametrize("family", ["tiny_gpt2", "tiny_llama"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_starts_at_the_base_trains_and_reloads_on_the_original_base(request, family, variant, tmp_path):
    make = request.getfixturevalue(family)
    ids = torch.arange(24).reshape(2, 12)
    base = make()
    with torch.no_grad():
        before = base(ids).logits
    model = add_adapters(base, AdapterConfig(lora_variant=variant, lora_rank=4), "base", seed=0)
    assert all("lora_" in name for name, p in model.named_parameters() if p.requires_grad)
    with torch.no_grad():
        assert torch.allclose(model(ids).logits, before, atol=2e-5)
    trained(model)
    with torch.no_grad():
        after = model(ids).logits
        assert not torch.allclose(after, before, atol=1e-3)
    with as_plain_lora(model):
        model.save_pretrained(tmp_path, save_embedding_layers=False)
    again = peft.PeftModel.from_pretrained(make(), str(tmp_path)).eval()
    with torch.no_grad():
        assert torch.allclose(again(ids).logits, after, atol=2e-5)
        assert torch.allclose(model(ids).logits, after), "saving does not change the model"
        assert torch.allclose(model.merge_and_unload()(ids).logits, after, atol=2e-5)


def test_rslora_scales_by_the_square_root_of_the_rank(tiny_gpt2):
    model = add_adapters(tiny_gpt2(), AdapterConfig(lora_variant="rslora", lora_rank=4, lora_alpha=6), "base", seed=0)
    assert model.base_model.model.transformer.h[0].attn.c_attn.scaling["default"] == 6 / 2


def test_dora_starts_from_the_norms_of_the_weights(tiny_gpt2):
    base = tiny_gpt2()
    norms = base.transformer.h[0].attn.c_attn.weight.detach().norm(dim=0)  # Conv1D: (in, out); one norm per output
    model = add_adapters(base, AdapterConfig(lora_variant="dora"), "base", seed=0)
    magnitude = model.base_model.model.transformer.h[0].attn.c_attn.lora_magnitude_vector["default"].weight
    assert torch.allclose(magnitude.flatten(), norms, rtol=1e-5)


def test_pissa_starts_from_the_principal_components(tiny_gpt2):
    base = tiny_gpt2()
    weight = base.transformer.h[0].attn.c_attn.weight.detach().clone().t()
    model = add_adapters(base, AdapterConfig(lora_variant="pissa", lora_rank=3, lora_alpha=6), "base", seed=0)
    layer = model.base_model.model.transformer.h[0].attn.c_attn
    u, s, v = torch.linalg.svd(weight)
    principal = (u[:, :3] * s[:3]) @ v[:3]
    learned = 2.0 * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    assert torch.allclose(learned, principal, atol=1e-5)
    assert torch.allclose(layer.base_layer.weight.t() + learned, weight, atol=1e-5)


def test_frozen_weights_get_the_given_dtype_and_adapters_stay_in_float32(tiny_gpt2):
    model = add_adapters(tiny_gpt2(), AdapterConfig(), "base", seed=0, dtype=torch.bfloat16)
    for name, p in model.named_parameters():
        assert p.dtype == (torch.float32 if p.requires_grad else torch.bfloat16), name


@pytest.mark.slow
def test_adapters_on_plain_weights_do_not_import_bitsandbytes_and_quantized_ones_still_can():
    code = """
import sys
import torch
from textgen.model.config import AdapterConfig, ModelConfig
from textgen.model.loading import load_model
from textgen.model.locate import locate
from textgen.model.lora import add_adapters
tiny = locate("tiny-gpt2")
add_adapters(load_model(tiny, ModelConfig()), AdapterConfig(), "base", seed=0)
assert "bitsandbytes" not in sys.modules
base = load_model(tiny, ModelConfig(), quantize_bits=4)
assert "bitsandbytes" in sys.modules
model = add_adapters(base, AdapterConfig(), "base", seed=0)
model(input_ids=torch.arange(6)[None], labels=torch.arange(6)[None]).loss.backward()
assert any(p.grad is not None and p.grad.any() for p in model.parameters())
print("both")
"""
    ran = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, timeout=120)
    assert ran.stdout == "both\n", ran.stderr
