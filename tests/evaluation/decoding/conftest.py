"""Models for decoding tests: small, random, and with clear preferences among tokens."""

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture(scope="session")
def sharpen() -> Callable[..., Any]:
    """``sharpen(model, by=20)``: the model in evaluation mode with its logits scaled, or all tokens would be about
    equally probable. The output head must not be tied to the embedding."""

    def scale(model: Any, by: float = 20) -> Any:
        import torch

        with torch.no_grad():
            model.get_output_embeddings().weight.mul_(by)
        return model.eval()

    return scale


@pytest.fixture(scope="session")
def tiny_mistral() -> Callable[..., Any]:
    """``tiny_mistral(seed, vocab_size=300, …)``: a random Mistral whose sliding window of 6 tokens is shorter than the
    texts in the tests, so that its cache drops tokens."""

    def make(seed: int = 0, **shape: Any) -> Any:
        import torch
        from transformers import MistralConfig, MistralForCausalLM

        sizes = {"vocab_size": 300, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
        heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "sliding_window": 6}
        torch.manual_seed(seed)
        return MistralForCausalLM(MistralConfig(**(sizes | heads | shape)))

    return make
