"""Adapters: the layers that get one, training them without changing the base, and their variants."""

from typing import Any, get_args, get_type_hints

import peft
import pytest
import torch
from test_weights import GPT2_LAYERS, LLAMA_LAYERS
from tiny_models import MIXTURES, make

from textgen.model.adapters.lora import VARIANTS, add_adapters, as_plain_lora
from textgen.model.adapters.targets import find_targets
from textgen.model.config import AdapterConfig
from textgen.model.kernels.swap_modules import swap_modules
from textgen.model.loss import ModelWithLoss
from textgen.training.config import TrainingConfig
from textgen.training.optimizers import build_optimizer

IDS = torch.arange(20).reshape(2, 10)


def adapted_layers(model) -> list[str]:
    """The layers that have an adapter, by their names in the base model."""
    names = (name for name, _ in model.named_modules() if name.endswith(".lora_A"))
    return [name.removeprefix("base_model.model.").removesuffix(".lora_A") for name in names]


@pytest.mark.parametrize(("family", "layers"), [("tiny_gpt2", GPT2_LAYERS), ("tiny_llama", LLAMA_LAYERS)])
def test_auto_adapts_every_linear_layer_except_the_head(request, family, layers):
    model = add_adapters(request.getfixturevalue(family)(), AdapterConfig(), "base", seed=0)
    assert adapted_layers(model) == layers


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


@pytest.mark.parametrize("architecture", MIXTURES)
def test_adapters_on_experts_train_reload_with_plain_peft_and_merge(architecture, tmp_path):
    base = make(architecture)
    original = {name: p.clone() for name, p in base.named_parameters()}
    ids = torch.randint(0, 300, (2, 16), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = base(input_ids=ids).logits
    targets = find_targets(base, AdapterConfig())
    model = swap_modules(add_adapters(base, AdapterConfig(lora_rank=4), "base", seed=0))
    adapters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert len(adapters) == 2 * len(targets.adapted), "an A and a B matrix for each"
    with torch.no_grad():
        torch.testing.assert_close(model(input_ids=ids).logits, before, rtol=1e-5, atol=1e-5)

    optimizer = torch.optim.SGD(adapters.values(), lr=0.1)
    for _ in range(2):  # the A matrices get no gradient while the B matrices are zero
        optimizer.zero_grad()
        (ModelWithLoss(model)(ids, ids) / 30).backward()
        optimizer.step()
    assert not [name for name, p in adapters.items() if p.grad is None or not p.grad.any()]
    for name, p in model.named_parameters():
        if name not in adapters:
            assert torch.equal(p, original.pop(name.removeprefix("base_model.model.").replace("base_layer.", "")))
    assert not original, "every weight of the base was compared"

    with torch.no_grad():
        after = model(input_ids=ids).logits
    assert (after - before).abs().max() > 0.1
    model.save_pretrained(tmp_path, save_embedding_layers=False)
    reloaded = peft.PeftModel.from_pretrained(make(architecture), str(tmp_path))
    with torch.no_grad():
        torch.testing.assert_close(reloaded(input_ids=ids).logits, after, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(model.merge_and_unload()(input_ids=ids).logits, after, rtol=1e-5, atol=1e-5)


def test_adapters_on_experts_are_float32_next_to_weights_in_bfloat16_and_have_the_scale_of_the_variant():
    config = AdapterConfig(lora_variant="rslora", lora_rank=4, lora_alpha=6)
    model = add_adapters(make("mixtral"), config, "base", seed=0, dtype=torch.bfloat16)
    for name, p in model.named_parameters():
        assert p.dtype == (torch.float32 if p.requires_grad else torch.bfloat16), name
    experts = model.base_model.model.model.layers[0].mlp.experts
    assert experts.scaling["default"] == 6 / 2
    assert experts.lora_A["default"].weight.shape[0] == 4 * 4, "the rank of each expert"


def test_what_cannot_have_dropout_is_left_out():
    model = add_adapters(make("deepseek_v3"), AdapterConfig(lora_dropout=0.1), "base", seed=0)
    names = {layer.rpartition(".")[2] for layer in adapted_layers(model)}
    assert names == {"q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj"}


@pytest.mark.parametrize("name", ["mamba", "mamba2", "falcon_h1"])
def test_auto_trains_every_adapter_of_models_with_layers_that_peft_refuses(name):
    model = add_adapters(make(name), AdapterConfig(), "base", seed=0)
    assert not [layer for layer in adapted_layers(model) if layer.endswith("out_proj")]
    trained(model)
    matrices = [p for name, p in model.named_parameters() if ".lora_B." in name]
    assert matrices
    assert all(p.any() for p in matrices)
