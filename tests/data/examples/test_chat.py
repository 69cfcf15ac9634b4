"""Which part of a chat is the answer, whatever the template."""

import pytest

from textgen.data.examples.chat import chat_parts, check_template
from textgen.errors import UserError

CHAT = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Yes?"},
    {"role": "user", "content": "Bye"},
    {"role": "assistant", "content": "Bye!"},
]


def test_an_answer_is_all_that_the_template_writes_after_the_prompt_for_it(chat_tokenizer):
    assert chat_parts(chat_tokenizer(), CHAT, completion_only=True) == [
        ("<|user|>Hi<|end|><|assistant|>", False),
        ("Yes?<|end|>", True),
        ("<|user|>Bye<|end|><|assistant|>", False),
        ("Bye!<|end|>", True),
    ]


def test_all_of_it_is_what_the_template_writes(chat_tokenizer):
    tokenizer = chat_tokenizer()
    assert chat_parts(tokenizer, CHAT, completion_only=False) == [
        (tokenizer.apply_chat_template(CHAT, tokenize=False), True)
    ]


def test_a_chat_that_does_not_end_with_an_answer_has_an_unscored_end(chat_tokenizer):
    assert chat_parts(chat_tokenizer(), CHAT[:3], completion_only=True)[-1] == ("<|user|>Bye<|end|>", False)


def test_a_chat_may_begin_with_an_answer(chat_tokenizer):
    strict = "{{ messages[0].role }}: {% for m in messages %}{{ m.content }}<|end|>{% endfor %}"
    assert chat_parts(chat_tokenizer(strict), CHAT[1:2], completion_only=True) == [("assistant: Yes?<|end|>", True)]


FORGETFUL = (  # like templates that leave earlier thoughts out
    "{% for m in messages %}<|{{ m.role }}|>{% if loop.last or m.role == 'user' %}{{ m.content }}{% endif %}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (None, "has no chat template"),
        (
            "{{ raise_exception('roles must alternate') }}",
            "does not accept this chat: roles must alternate. Correct or remove the chat",
        ),
        (FORGETFUL, "writes a message differently when others follow"),
    ],
)
def test_a_template_that_cannot_be_used_is_a_user_error(chat_tokenizer, template, expected):
    with pytest.raises(UserError, match=expected):
        chat_parts(chat_tokenizer(template), CHAT, completion_only=True)


def test_a_template_that_is_no_jinja_is_named_with_the_line(chat_tokenizer):
    broken = chat_tokenizer("{% for m in messages %}\n{{ m.content }}\n{% endfo %}")
    with pytest.raises(UserError, match=r"^--chat-template t\.jinja: line 3 is not valid Jinja: .*endfo.*Correct the"):
        check_template(broken, "--chat-template t.jinja")
    with pytest.raises(UserError, match=r"^the chat template: line 3 is not valid Jinja: .*endfo"):
        chat_parts(broken, CHAT, completion_only=True)


@pytest.mark.parametrize("template", [None, "{{ raise_exception('not this chat') }}", "{{ messages[7].content }}"])
def test_a_template_that_is_jinja_is_accepted_whatever_chats_it_refuses(chat_tokenizer, template):
    check_template(chat_tokenizer(template))
