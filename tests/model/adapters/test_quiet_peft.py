"""peft without its warnings, and without the libraries that it imports only because they are installed."""

import subprocess
import sys

import pytest


@pytest.mark.slow
def test_adapters_on_plain_weights_do_not_import_bitsandbytes_and_quantized_ones_still_can():
    code = """
import sys
import torch
from textgen.model.config import AdapterConfig, ModelConfig
from textgen.model.loading import load_model
from textgen.model.locate import locate
from textgen.model.adapters.lora import add_adapters
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
