"""Quantized weights and adapters on them, on a CPU."""

import json
from typing import Any

import bitsandbytes
import pytest
import torch

from textgen.model.adapters.lora import VARIANTS, add_adapters
from textgen.model.adapters.weights import linear_layers
from textgen.model.config import AdapterConfig, ModelConfig
from textgen.model.loading import load_model, save_model, weights_fingerprint
from textgen.model.locate import load_tokenizer, locate
from textgen.model.loss import ModelWithLoss

TINY = locate("tiny-gpt2")
IDS = torch.randint(5, 4000, (4, 48), generator=torch.Generator().manual_seed(0))
LAYERS = {4: bitsandbytes.nn.Linear4bit, 8: bitsandbytes.nn.Linear8bitLt}


def train(model: Any, steps: int) -> list[float]:
    """The losses of some steps on the same batch."""
    scored, losses = ModelWithLoss(model).train(), []
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    for _ in range(steps):
        loss = scored(IDS, IDS)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize("bits", [4, 8])
def test_adapters_on_quantized_weights_train_and_reload_to_the_same_logits(bits, tmp_path, caplog):
    base = load_model(TINY, ModelConfig(), quantize_bits=bits)
    layers = linear_layers(base)
    assert len(layers) == 16
    assert all(isinstance(layer, LAYERS[bits]) for layer in layers.values())
    repacked = [module for module in base.modules() if getattr(module, "support_avx512bf16_for_cpu", False)]
    assert not repacked, "on CPUs with AVX512_BF16, an evaluation would make these layers untrainable"
    fingerprint = weights_fingerprint(base)
    assert fingerprint == weights_fingerprint(load_model(TINY, ModelConfig(), quantize_bits=bits))
    assert fingerprint != weights_fingerprint(load_model(TINY, ModelConfig()))

    model = add_adapters(base, AdapterConfig(), TINY.base, seed=0)
    assert ModelWithLoss(model).head[0] is not None, "the loss is computed in chunks here too"
    losses = train(model, 6)
    assert losses[-1] < 0.9 * losses[0]
    assert weights_fingerprint(load_model(TINY, ModelConfig(), quantize_bits=bits)) == fingerprint

    with torch.no_grad():
        expected = model.eval()(IDS).logits
    save_model(
        model, load_tokenizer(TINY, ModelConfig()), tmp_path / "model", base_fingerprint=fingerprint, quantize_bits=bits
    )
    assert json.loads((tmp_path / "model" / "base_fingerprint.json").read_text())["quantize_bits"] == bits
    assert not list((tmp_path / "model").glob("*.bin"))
    again = load_model(locate(str(tmp_path / "model")), ModelConfig()).eval()
    with torch.no_grad():
        assert torch.equal(again(IDS).logits, expected)
    assert not [record for record in caplog.records if record.name.startswith("bitsandbytes")]


def test_a_quantized_model_is_close_to_the_original():
    plain = load_model(TINY, ModelConfig()).eval()
    text = torch.tensor([load_tokenizer(TINY, ModelConfig()).encode("Return the number of items in the list.")])
    with torch.no_grad():
        expected = ModelWithLoss(plain)(text, text)
        for bits, tolerance in ((8, 0.02), (4, 0.2)):
            model = load_model(TINY, ModelConfig(), quantize_bits=bits).eval()
            assert float(ModelWithLoss(model)(text, text)) == pytest.approx(float(expected), rel=tolerance)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_combinations_that_are_refused_are_those_that_cannot_train(bits, variant):
    adapters = AdapterConfig(lora_variant=variant, qlora_bits=bits)

    def adapted() -> Any:
        return add_adapters(load_model(TINY, ModelConfig(), quantize_bits=bits), adapters, TINY.base, seed=0)

    if adapters.problems("qlora"):
        with pytest.raises((TypeError, AttributeError)):  # from peft; once it works there, it need not be refused here
            train(adapted(), 1)
    else:
        losses = train(adapted(), 4)
        assert losses[-1] < 0.95 * losses[0]
