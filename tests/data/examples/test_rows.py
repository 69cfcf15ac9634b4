"""What a row of a table is: a prompt with its completion, or a chat."""

from typing import Any

import pytest

from textgen.data.document import Document
from textgen.data.examples.rows import example_of
from textgen.errors import UserError

USER, ANSWER = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}


def read(row: dict[str, Any], *, completion_only: bool = True) -> Document | None:
    return example_of(row, completion_only=completion_only, id="a#0", source="a")


def test_of_a_prompt_and_its_completion_only_the_completion_is_scored():
    document = read({"prompt": "Two and two? ", "completion": "Four, née."})
    assert document.is_example
    assert document.text == "Two and two? Four, née."
    assert (document.scored_text, document.words, document.bytes) == ("Four, née.", 2, 11)
    assert read({"prompt": "a ", "completion": "b"}, completion_only=False).scored_text == "a b"
    assert read({"prompt": None, "completion": "b"}).text == "b"


def test_of_a_chat_only_the_answers_are_scored():
    row = {"messages": [USER, ANSWER | {"name": None}, USER, ANSWER]}
    document = read(row)
    assert document.messages == (USER, ANSWER, USER, ANSWER)  # without what other rows have filled in
    assert document.scored_text == "Yes?\n\nYes?"
    assert read(row, completion_only=False).scored_text.startswith("user: Hi\n\nassistant: Yes?")
    assert read({"prompt": [USER], "completion": [ANSWER]}).messages == (USER, ANSWER)


def test_content_can_be_a_list_of_texts():
    parts = [{"type": "text", "text": "Ye"}, {"type": "text", "text": "s?"}]
    assert read({"messages": [USER, {"role": "assistant", "content": parts}]}).scored_text == "Yes?"


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "a", "completion": " "},
        {"prompt": "a", "completion": None},
        {"messages": []},
        {"messages": None},
        {"messages": [USER]},
        {"messages": [USER, {"role": "assistant", "content": None}]},
    ],
)
def test_a_row_with_nothing_to_train_on_is_no_document(row):
    assert read(row) is None


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": "a", "completion": 3}, "column completion of a#0: the value is of type int, not text"),
        ({"messages": [USER, {"role": "assistant", "content": 5}]}, "content of a message is neither text nor a list"),
        ({"messages": [USER, {"role": "assistant", "content": ["a"]}]}, "neither text nor a list of parts"),
        ({"messages": ["Hi"]}, "expected a list of messages with 'role' and 'content'"),
        ({"messages": "Hi"}, "expected a list of messages"),
    ],
)
def test_a_row_that_is_none_of_these_is_a_user_error(row, expected):
    with pytest.raises(UserError, match=expected):
        read(row)


def test_an_answer_can_be_a_tool_call_with_numbers_and_without_padding():
    call = {"function": {"name": "add", "arguments": {"a": 1012, "b": None}}}
    document = read({"messages": [USER, {"role": "assistant", "content": None, "tool_calls": [call]}]})
    assert document.messages[1]["tool_calls"] == [{"function": {"name": "add", "arguments": {"a": 1012}}}]


def test_half_a_character_in_a_message_becomes_the_replacement_character():
    assert read({"messages": [USER, {"role": "assistant", "content": "a\ud83d"}]}).scored_text == "a\ufffd"
