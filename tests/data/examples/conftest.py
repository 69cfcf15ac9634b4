"""A tokenizer with a chat template."""

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
