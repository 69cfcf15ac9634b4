"""The look at what is trained on, and what it refuses."""

import pytest

from textgen.data.document import Document
from textgen.data.examples.audit import as_trained, audit_problems, show_examples
from textgen.data.examples.encode import encode_documents

CHAT = ({"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?\nWhat?"})
NAMES = {"data": "--data a.jsonl", "template": "--chat-template t.jinja"}


def chat(*messages, id="a#0"):
    return Document(id, "a", "", messages=messages or CHAT, completion_only=True)


def test_targets_are_set_apart_and_counted_with_the_end_of_text(chat_tokenizer):
    pair = Document("b#1", "b", "Two? 1", "Two? ", (), True)
    lines = show_examples(chat_tokenizer(), [chat(), pair])
    assert lines[1] == "    <|endoftext|><|user|>Hi<|end|><|assistant|>[[Yes?\\nWhat?<|end|><|endoftext|>]]"
    assert lines[2].startswith("  b#1 (2 of ")
    assert lines[3] == "    <|endoftext|>Two? [[1<|endoftext|>]]"
    assert len(lines) == 4


def test_perplexity_does_not_score_the_end_of_text(chat_tokenizer):
    pair = Document("b#1", "b", "Two? 1", "Two? ", (), True)
    first, text = show_examples(chat_tokenizer(), [pair], training=False)
    assert first.startswith("  b#1 (1 of ")
    assert text == "    Two? [[1]]"


def test_the_end_of_text_is_no_target_after_a_turn_of_the_user(chat_tokenizer):
    (_, text) = show_examples(chat_tokenizer(), [chat(*CHAT, CHAT[0])])
    assert text.endswith("<|end|>]]<|user|>Hi<|end|><|endoftext|>")


@pytest.mark.parametrize("messages", [CHAT, (*CHAT, CHAT[0])])
def test_what_is_shown_is_what_the_corpus_has(chat_tokenizer, messages):
    tokenizer = chat_tokenizer()
    (encoded,) = encode_documents(tokenizer, [chat(*messages)])
    trained = as_trained(tokenizer, encoded)
    assert trained.ids == [tokenizer.eos_token_id, *encoded.ids, tokenizer.eos_token_id]
    context = {
        i for begin, end in zip(encoded.edges()[::2], encoded.edges()[1::2], strict=True) for i in range(begin, end)
    }
    assert trained.scored == [False, *(i not in context for i in range(len(encoded.ids) + 1))]


def test_long_parts_are_cut_in_the_middle(chat_tokenizer):
    pair = Document("a#0", "a", "a" * 5000 + "b", "a" * 5000, (), True)
    assert len(show_examples(chat_tokenizer(), [pair])[1]) < 450


def test_a_space_that_the_tokenizer_does_not_write_is_shown(llama_tokenizer):
    pair = Document("a#0", "a", "two + two four", "two + two", (), True)
    assert show_examples(llama_tokenizer(), [pair])[1] == "    <s> two + two[[ four</s>]]"


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (
            "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}",
            "--chat-template t.jinja: the end of the assistant's turn is never a target in the chats of --data a.jsonl",
        ),
        (
            "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}<|end|>{% endif %}{% endfor %}",
            "--data a.jsonl: no chat has a target, such as a#0 (row 1 of a): the chat template writes nothing",
        ),
        (
            "{% for m in messages %}<|end|>{{ m.content }}{% endfor %}",
            "the end of the assistant's turn is never a target",
        ),
    ],
)
def test_chats_without_targets_or_without_an_end_are_problems(chat_tokenizer, template, expected):
    (problem,) = audit_problems(chat_tokenizer(template), [chat()], training=True, **NAMES)
    assert expected in problem


def test_one_chat_with_targets_is_enough(chat_tokenizer):
    some = "{% for m in messages %}{% if m.role == 'user' or m.name %}{{ m.content }}<|end|>{% endif %}{% endfor %}"
    with_name = chat(CHAT[0], CHAT[1] | {"name": "a"}, id="a#1")
    assert audit_problems(chat_tokenizer(some), [chat(), with_name], training=True, **NAMES) == []


def test_an_end_is_not_needed_where_nothing_is_trained_on(chat_tokenizer):
    endless = chat_tokenizer("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}")
    assert audit_problems(endless, [chat()], training=False, **NAMES) == []
    assert audit_problems(endless, [Document("a#0", "a", "a b", "a ", (), True)], training=True, **NAMES) == []


def test_white_space_may_follow_the_end_of_a_turn(chat_tokenizer):
    template = "{% for m in messages %}{{ m.content }}<|end|>{{ '\n' }}{% endfor %}"
    assert audit_problems(chat_tokenizer(template), [chat()], training=True, **NAMES) == []
