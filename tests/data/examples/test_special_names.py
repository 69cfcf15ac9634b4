"""Names of special tokens: those that the template writes, and those in a message."""

import pytest

from textgen.data.document import Document
from textgen.data.examples.special_names import SpecialNames, cut_at_special_tokens
from textgen.errors import UserError


def chat(*contents, **more):
    roles = ("user", "assistant")
    messages = tuple({"role": role, "content": text} | more for role, text in zip(roles, contents, strict=True))
    return Document("a#0", "a", "", messages=messages, completion_only=True)


def cut(tokenizer, document, *parts):
    return list(cut_at_special_tokens(tokenizer, SpecialNames.of(tokenizer), document, parts))


def test_names_become_ids_and_those_in_a_message_stay(chat_tokenizer):
    tokenizer = chat_tokenizer()
    end, user, assistant = tokenizer.convert_tokens_to_ids(["<|end|>", "<|user|>", "<|assistant|>"])
    document = chat("a<|end|>", "b")
    parts = [("<|user|>a<|end|><|end|><|assistant|>", False), ("b<|end|>", True)]
    assert cut(tokenizer, document, *parts) == [
        (user, False),
        ("a<|end|>", False),
        (end, False),
        (assistant, False),
        ("b", True),
        (end, True),
    ]


def test_white_space_belongs_to_a_token_that_strips_it(llama_tokenizer):
    names = SpecialNames.of(llama_tokenizer())
    token = names.ids["<|turn|>"]
    assert list(names.find("a <|turn|> \n b")) == [(2, token, 2, 13)]
    assert list(names.find("</s> b")) == [(0, names.ids["</s>"], 0, 4)]


def test_a_longer_name_is_found_before_a_shorter_one_in_it(chat_tokenizer):
    tokenizer = chat_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|end|>>"]}, replace_extra_special_tokens=False)
    names = SpecialNames.of(tokenizer)
    assert [name for name, *_ in names.find("<|end|>><|end|>")] == [0, 8]
    assert [token for _, token, *_ in names.find("<|end|>><|end|>")] == [names.ids["<|end|>>"], names.ids["<|end|>"]]


def test_a_name_in_a_role_is_refused(chat_tokenizer):
    with pytest.raises(UserError, match="the name of a special token is in a role or tool call"):
        cut(chat_tokenizer(), chat("a", "b", name="<|end|>"), ("a", True))
