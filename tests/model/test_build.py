"""Building a model: the weights, adapters and layers of its parts, and saving it."""

import json
from typing import Any

import bitsandbytes
import pytest
import torch
from families import tiny_model

from textgen.errors import UserError
from textgen.model.adapters.lora import add_adapters
from textgen.model.build import TrainableModel, build_model, load_frozen, preview_targets
from textgen.model.config import AdapterConfig, ModelConfig
from textgen.model.kernels.linear import EfficientConv1D, RecomputableLayerNorm
from textgen.model.layers import transformer_blocks
from textgen.model.loading import load_model, weights_fingerprint
from textgen.model.locate import find_model, locate
from textgen.model.loss import ModelWithLoss

CPU, IDS = torch.device("cpu"), torch.arange(5, 45).reshape(2, 20)
TINY = locate("tiny-gpt2")
PARAMETERS = 1_350_400


def build(config: ModelConfig, adapters: AdapterConfig | None = None, **options: Any) -> TrainableModel:
    options = {"device": CPU, "dtype": torch.float32, "seed": 3} | options
    return build_model(find_model(config), adapters or AdapterConfig(), **options)


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach() for name, p in model.named_parameters()}


def assert_same_weights(model: torch.nn.Module, expected: torch.nn.Module) -> None:
    assert weights(model).keys() == weights(expected).keys()
    for name, tensor in weights(expected).items():
        assert torch.equal(weights(model)[name], tensor), name


def test_a_model_that_cannot_isolate_documents_is_a_user_error(tmp_path, tokenizer):
    tiny_model("mamba", vocab_size=300).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    config = ModelConfig(model=str(tmp_path))
    build(config)
    with pytest.raises(UserError, match=r"--packing isolated: .* does not keep documents"):
        build(config, isolated=True)


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=IDS).logits


def train(model: Any) -> None:
    """A step that changes the logits."""
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    for _ in range(2):  # the A matrices of adapters get no gradient while the B matrices are zero
        ModelWithLoss(model).train()(IDS, IDS).backward()
        optimizer.step()
        optimizer.zero_grad()


def test_a_full_model_has_the_pretrained_weights_all_trainable():
    built = build(ModelConfig())
    base = load_model(TINY, ModelConfig())
    assert_same_weights(built.model, base)
    assert all(p.requires_grad for p in built.model.parameters())
    assert (built.trainable_parameters, built.total_parameters, built.quantize_bits) == (PARAMETERS, PARAMETERS, None)
    assert built.base_fingerprint == weights_fingerprint(base)
    assert str(built) == "1,350,400 of 1,350,400 parameters are trainable (100.0%)"
    assert built.facts() == {
        "model": "tiny-gpt2", "trainable_parameters": PARAMETERS, "total_parameters": PARAMETERS,
    }  # fmt: skip


@pytest.mark.parametrize("variant", ["lora", "pissa"])
def test_adapters_are_those_of_the_settings_and_the_seed(variant):
    config, adapters = ModelConfig(method="lora"), AdapterConfig(lora_rank=4, lora_variant=variant)
    built = build(config, adapters)
    base = load_model(TINY, config)
    fingerprint = weights_fingerprint(base)
    assert_same_weights(built.model, add_adapters(base, adapters, TINY.base, seed=3))
    assert built.base_fingerprint == fingerprint, "of the weights before pissa changes them"
    assert built.trainable_parameters == sum(p.numel() for name, p in built.model.named_parameters() if "lora_" in name)
    assert built.total_parameters == PARAMETERS + built.trainable_parameters
    other = build(config, adapters, seed=4)
    assert any(not torch.equal(p, weights(other.model)[name]) for name, p in weights(built.model).items()) is (
        variant == "lora"
    ), "pissa starts from the weights alone"


def test_what_is_adapted_is_described_and_recorded():
    config, adapters = ModelConfig(method="lora"), AdapterConfig(lora_targets="c_attn,mlp.c_fc")
    built = build(config, adapters)
    assert str(built).endswith(" parameters are trainable (2.7%); adapters on 8 linear layers (c_attn 4, c_fc 4)")
    assert built.facts()["adapters"] == {"adapted": {"linear layer": {"c_attn": 4, "c_fc": 4}}, "not_adapted": []}
    assert preview_targets(built.found, adapters) == built.targets
    assert preview_targets(find_model(ModelConfig()), adapters) is None


def test_quantized_weights_are_counted_as_they_were_before():
    built = build(ModelConfig(method="qlora"), AdapterConfig())
    linear = sum(4 * 128 * 128 * 3 for _ in range(4))
    assert built.quantized_parameters == linear == built.facts()["quantized_parameters"]
    assert built.total_parameters == PARAMETERS + built.trainable_parameters
    assert f", {linear / PARAMETERS:.1%} of the frozen ones are quantized; adapters on 16" in str(built)


def test_frozen_weights_next_to_adapters_are_stored_in_the_compute_dtype():
    built = build(ModelConfig(method="lora"), dtype=torch.bfloat16)
    assert {p.dtype for p in built.model.parameters() if not p.requires_grad} == {torch.bfloat16}
    assert {p.dtype for p in built.model.parameters() if p.requires_grad} == {torch.float32}
    full = build(ModelConfig(), dtype=torch.bfloat16)
    assert {p.dtype for p in full.model.parameters()} == {torch.float32}, "trained weights stay in float32"


@pytest.mark.parametrize(("bits", "layer"), [(4, bitsandbytes.nn.Linear4bit), (8, bitsandbytes.nn.Linear8bitLt)])
def test_qlora_quantizes_the_frozen_weights(bits, layer):
    built = build(ModelConfig(method="qlora"), AdapterConfig(qlora_bits=bits))
    quantized = [module for module in built.model.modules() if isinstance(module, layer)]
    assert len(quantized) == 16
    assert built.quantize_bits == bits
    assert built.base_fingerprint == weights_fingerprint(load_model(TINY, ModelConfig(), quantize_bits=bits))
    assert all("lora_" in name for name, p in built.model.named_parameters() if p.requires_grad)


def test_layers_are_the_memory_efficient_ones_with_and_without_adapters():
    for method in ("full", "lora"):
        block = transformer_blocks(build(ModelConfig(method=method)).model)[0]
        assert {EfficientConv1D, RecomputableLayerNorm} <= {type(module) for module in block.modules()}


@pytest.mark.parametrize("method", ["full", "lora"])
def test_gradient_checkpointing_stores_fewer_activations(method):
    def stored(gradient_checkpointing: bool) -> int:
        model = build(ModelConfig(method=method), gradient_checkpointing=gradient_checkpointing).model
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            ModelWithLoss(model).train()(IDS, IDS)
        return sum(sizes)

    assert stored(True) < 0.5 * stored(False)


@pytest.mark.parametrize(
    ("config", "adapters"),
    [
        (ModelConfig(), AdapterConfig()),
        (ModelConfig(method="lora"), AdapterConfig(lora_variant="pissa")),
        (ModelConfig(method="qlora"), AdapterConfig(qlora_bits=8)),
    ],
    ids=["full", "pissa", "qlora"],
)
def test_a_trained_model_is_saved_and_reloads_to_the_same_logits(tmp_path, config, adapters):
    built = build(config, adapters)
    before = logits(built.model)
    train(built.model)
    expected = logits(built.model)
    assert not torch.allclose(expected, before, atol=1e-3)
    built.save(tmp_path / "model")
    record = tmp_path / "model" / "base_fingerprint.json"
    assert record.exists() is (config.method != "full")
    if record.exists():
        saved = json.loads(record.read_text())
        assert (saved["sha256"], saved.get("quantize_bits")) == (built.base_fingerprint, built.quantize_bits)
    found = find_model(ModelConfig(model=str(tmp_path / "model")))
    assert len(found.tokenizer) == 4096
    torch.testing.assert_close(logits(load_frozen(found, device=CPU, seed=0)), expected, rtol=1e-4, atol=1e-4)


def test_a_full_state_dictionary_is_saved_in_place_of_the_models_own(tmp_path):
    built = build(ModelConfig())
    state = {name: torch.zeros_like(tensor) for name, tensor in built.model.state_dict().items()}
    built.save(tmp_path / "model", state=state)
    found = find_model(ModelConfig(model=str(tmp_path / "model")))
    assert not any(tensor.any() for tensor in weights(load_frozen(found, device=CPU, seed=0)).values())


def test_a_frozen_model_gives_the_logits_of_the_plain_one():
    model = load_frozen(find_model(ModelConfig()), device=CPU, seed=0)
    torch.testing.assert_close(logits(model), logits(load_model(TINY, ModelConfig())), rtol=1e-4, atol=1e-4)


def test_random_weights_depend_on_the_seed():
    scratch = ModelConfig(from_scratch=True)
    assert_same_weights(build(scratch).model, load_model(TINY, scratch, seed=3))
    found = find_model(scratch)
    assert_same_weights(load_frozen(found, device=CPU, seed=5), load_model(TINY, scratch, seed=5))
    assert not torch.equal(*(build(scratch, seed=seed).model.lm_head.weight for seed in (3, 4)))
