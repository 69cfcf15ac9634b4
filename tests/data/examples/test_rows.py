"""What a row of a table is: a prompt with its completion, or a chat."""

from typing import Any

import pytest

from textgen.data.document import Document
from textgen.data.examples.rows import SHAREGPT_ROLES, LeftOut, example_of, place
from textgen.errors import UserError

USER, ANSWER = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}


def read(row: dict[str, Any], *, completion_only: bool = True) -> Document | LeftOut:
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
    document = read({"messages": [USER, {"role": "assistant", "content": parts}]})
    assert document.messages == (USER, ANSWER), "as one text, since a template may print a list as it is"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "a", "completion": " "}, "the completion is blank"),
        ({"prompt": "a", "completion": None}, "the completion is blank"),
        ({"messages": []}, "the chat has no message"),
        ({"messages": None}, "the chat has no message"),
        ({"conversations": None}, "the chat has no message"),
        ({"messages": [USER]}, "the chat has no answer of the assistant"),
        ({"messages": [{"role": "system", "content": "Be brief."}]}, "the chat has no answer of the assistant"),
        ({"messages": [USER, {"role": "assistant", "content": None}]}, "the chat has no answer of the assistant"),
    ],
)
def test_a_row_with_nothing_to_train_on_says_where_it_is_and_why(row, reason):
    assert read(row) == LeftOut("a#0 (row 1 of a)", reason)


def test_a_blank_prompt_is_an_example():
    assert read({"prompt": " \n", "completion": "b"}).text == " \nb"
    assert read({"prompt": "", "completion": "b"}).prompt == ""


def test_a_chat_may_end_with_a_turn_of_the_user():
    assert read({"messages": [USER, ANSWER, USER]}).messages == (USER, ANSWER, USER)


@pytest.mark.parametrize(("name", "role"), SHAREGPT_ROLES.items())
def test_messages_of_sharegpt_are_renamed(name, role):
    row = {"conversations": [{"from": name, "value": "Hi"}, {"from": "gpt", "value": "Yes?", "weight": None}]}
    assert read(row).messages == ({"role": role, "content": "Hi"}, ANSWER)


def test_sharegpt_has_the_three_usual_names_and_conversations_may_have_roles():
    assert SHAREGPT_ROLES | {"human": "user", "gpt": "assistant", "system": "system"} == SHAREGPT_ROLES
    assert read({"conversations": [USER, ANSWER]}).messages == (USER, ANSWER)


def test_a_place_is_the_id_and_the_row_counted_from_one():
    assert place("b/a.jsonl#12", "b/a.jsonl") == "b/a.jsonl#12 (row 13 of b/a.jsonl)"
    assert place("other", "a.jsonl") == "other"


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (
            {"prompt": "a", "completion": 3},
            r"column completion of a#0 \(row 1 of a\): the value is of type int, not text",
        ),
        ({"messages": [USER, {"role": "assistant", "content": 5}]}, "content of a message is neither text nor a list"),
        ({"messages": [USER, {"role": "assistant", "content": ["a"]}]}, "neither text nor a list of parts"),
        ({"messages": ["Hi"]}, "expected a list of messages with 'role' and 'content'"),
        ({"messages": "Hi"}, "expected a list of messages"),
        ({"conversations": "Hi"}, "column conversations of .*: expected a list of messages with 'from' and 'value'"),
        ({"conversations": [{"from": "bot", "value": "Hi"}]}, r"is from 'bot'; known are human, gpt, system"),
        ({"messages": [USER, {"role": "assistant", "content": [{"type": "image"}]}]}, "Images and other parts cannot"),
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
