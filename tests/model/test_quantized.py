"""Frozen weights in 4 or 8 bits, on a CPU too."""

import json

import bitsandbytes
import pytest
import torch

from textgen.model.config import AdapterConfig, ModelConfig
from textgen.model.loading import load_model, save_model, weights_fingerprint
from textgen.model.locate import load_tokenizer, locate
from textgen.model.lora import add_adapters, linear_layers
from textgen.model.loss import ScoredModel

TINY = locate("tiny-gpt2")
IDS = torch.randint(5, 4000, (4, 48), generator=torch.Generator().manual_seed(0))
LAYERS = {4: bitsandbytes.nn.Linear4bit, 8: bitsandbytes.nn.Linear8bitLt}


@pytest.mark.parametrize("bits", [4, 8])
def test_adapters_learn_on_quantised_weights_and_come_back_on_the_same(bits, tmp_path):
    base = load_model(TINY, ModelConfig(), quantize_bits=bits)
    layers = linear_layers(base)
    assert len(layers) == 16
    assert all(isinstance(layer, LAYERS[bits]) for layer in layers.values())
    packs = [module for module in base.modules() if getattr(module, "support_avx512bf16_for_cpu", False)]
    assert not packs, "an evaluation would leave a layer that cannot be trained, on CPUs that multiply bf16"
    fingerprint = weights_fingerprint(base)
    assert fingerprint == weights_fingerprint(load_model(TINY, ModelConfig(), quantize_bits=bits))
    assert fingerprint != weights_fingerprint(load_model(TINY, ModelConfig()))

    model = add_adapters(base, AdapterConfig(), TINY.base, seed=0)
    scored, losses = ScoredModel(model), []
    assert scored.head[0] is not None, "the loss goes in chunks here too"
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    for _ in range(6):
        loss = scored(IDS, IDS)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
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


def test_a_quantised_model_is_near_the_one_it_was_made_of():
    plain = load_model(TINY, ModelConfig()).eval()
    text = torch.tensor([load_tokenizer(TINY, ModelConfig()).encode("Return the number of items in the list.")])
    with torch.no_grad():
        expected = ScoredModel(plain)(text, text)
        for bits, apart in ((8, 0.02), (4, 0.2)):
            model = load_model(TINY, ModelConfig(), quantize_bits=bits).eval()
            assert float(ScoredModel(model)(text, text)) == pytest.approx(float(expected), rel=apart)
