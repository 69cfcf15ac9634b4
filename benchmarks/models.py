"""The models that benchmarks measure: GPT-2's shape with random weights."""

import os
from pathlib import Path

# Name → arguments of GPT2Config.
SHAPES: dict[str, dict[str, int]] = {
    "124m": {},  # its defaults
    "tiny": {"n_embd": 64, "n_layer": 2, "n_head": 2, "vocab_size": 4096, "n_positions": 128},
}


def make_model(directory: Path, shape: str) -> Path:
    """GPT-2 with random weights and its dropout of 0.1, and a tokenizer, which all contestants load."""
    import torch
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # DeepSpeed, where installed, is imported below, and would warn
    torch.manual_seed(0)
    config = GPT2Config(**SHAPES[shape], bos_token_id=0, eos_token_id=0)
    GPT2LMHeadModel(config).save_pretrained(directory / "model")
    bundled = Path(__file__).parent.parent / "textgen" / "assets" / "tiny-gpt2"
    AutoTokenizer.from_pretrained(bundled).save_pretrained(directory / "model")
    return directory / "model"
