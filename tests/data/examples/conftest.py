"""Tokenizers with a chat template, and tokenizers that begin a text with a space."""

import json
from collections.abc import Callable
from typing import Any

import pytest

TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.fixture
def chat_tokenizer(tokenizer_with: Callable[..., Any]) -> Callable[..., Any]:
    """``chat_tokenizer(template)``: with the special tokens of the template, of which ``<|end|>`` ends a turn."""

    def make(template: str | None = TEMPLATE, **special: str) -> Any:
        tokenizer = tokenizer_with(eos_token="<|endoftext|>", **special)
        marks = ["<|user|>", "<|assistant|>", "<|system|>", "<|end|>"]
        tokenizer.add_special_tokens({"additional_special_tokens": marks})
        tokenizer.chat_template = template
        return tokenizer

    return make


@pytest.fixture
def llama_tokenizer() -> Callable[..., Any]:
    """``llama_tokenizer("first")``: pieces begin with ``▁``, and a text with a space of its own, as Llama's.

    "first" or "always": the text after a special token has such a space too only with "always"; "legacy": always, by a
    normalizer. ``template`` is a chat template.
    """

    def make(scheme: str = "first", template: str | None = None) -> Any:
        from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
        from transformers import PreTrainedTokenizerFast

        trained = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
        trained.pre_tokenizer = pre_tokenizers.Metaspace()  # no piece has a space in its middle
        special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
        trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=special, show_progress=False)
        texts = ["two + two = four ", "the user said 2 + 2 = 4 and the four said: two", "[INST] two [/INST] four "]
        trained.train_from_iterator(texts * 3, trainer)
        state = json.loads(trained.to_str())
        state["added_tokens"] = state["added_tokens"][:3]  # the bytes are pieces like any other
        trained = Tokenizer.from_str(json.dumps(state))
        if scheme == "legacy":
            trained.pre_tokenizer = None
            trained.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        else:
            trained.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
        steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        trained.decoder = decoders.Sequence(steps)
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=trained, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
        )
        tokenizer.add_special_tokens({"additional_special_tokens": [AddedToken("<|turn|>", rstrip=True)]})
        tokenizer.chat_template = template
        return tokenizer

    return make
