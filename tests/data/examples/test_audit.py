"""The look at what is trained on, and what it refuses."""

import pytest

from textgen.data.document import Document
from textgen.data.examples.audit import audit_examples
from textgen.errors import UserError

CHAT = ({"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?\nWhat?"})


def test_it_shows_two_examples_with_their_targets_set_apart(chat_tokenizer):
    pairs = [Document(f"a#{i}", "a", f"Two? {i}", "Two? ", (), True) for i in range(3)]
    chat = Document("b#0", "b", "", messages=CHAT, completion_only=True)
    lines = audit_examples(chat_tokenizer(), [chat, *pairs])
    assert lines[2] == "    <|user|>Hi<|end|><|assistant|>[[Yes?\\nWhat?<|end|>]]"
    assert lines[3].startswith("  a#0 (")
    assert lines[4] == "    Two? [[0]]"
    assert len(lines) == 5


def test_long_parts_are_cut_in_the_middle(chat_tokenizer):
    pair = Document("a#0", "a", "a" * 5000 + "b", "a" * 5000, (), True)
    assert len(audit_examples(chat_tokenizer(), [pair])[2]) < 450


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}", "would not learn to stop"),
        ("{% for m in messages if m.role == 'user' %}{{ m.content }}<|end|>{% endfor %}", "a#0 has no target"),
    ],
)
def test_a_chat_without_targets_or_without_an_end_is_a_user_error(chat_tokenizer, template, expected):
    with pytest.raises(UserError, match=expected):
        audit_examples(chat_tokenizer(template), [Document("a#0", "a", "", messages=CHAT, completion_only=True)])
