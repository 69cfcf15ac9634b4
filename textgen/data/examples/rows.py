"""Rows of a table → examples of a task: a prompt with its completion, or a chat, by the columns that there are."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from textgen.data.document import Document, content
from textgen.data.formats.file_to_read import CHAT, PAIR, SHAREGPT
from textgen.data.formats.well_formed import well_formed
from textgen.errors import UserError

SHAREGPT_ROLES = {"human": "user", "gpt": "assistant", "system": "system", "user": "user", "assistant": "assistant"}
"""Who a message in the column ``conversations`` is from → its role."""


@dataclass(frozen=True)
class LeftOut:
    """A row with nothing to train on.

    Attributes:
        place: where it is, as :func:`place` says.
        reason: what is missing, as a clause.
    """

    place: str
    reason: str


def place(id: str, source: str) -> str:
    """Where the row of an example is: ``chats.jsonl#3 (row 4 of chats.jsonl)``."""
    row = id.removeprefix(f"{source}#")
    return f"{id} (row {int(row) + 1} of {source})" if row.isdecimal() else id


def example_of(row: Mapping[str, Any], *, completion_only: bool, id: str, source: str) -> Document | LeftOut:
    """The example in a row; what is missing if there is nothing to train on: a blank completion, or no answer.

    If prompt and completion are lists of messages, they are a chat together.

    Args:
        row: column → value, with those of a chat, or of prompt and completion.
        completion_only: whether prompts and the messages of users are left out of the loss.
        id: the document's id.
        source: the document's source.

    Raises:
        UserError: there is something else than text or messages in the columns.
    """
    where = place(id, source)
    if CHAT in row:
        messages = _messages(row[CHAT], CHAT, where)
    elif SHAREGPT in row:
        messages = _messages(_from_sharegpt(row[SHAREGPT], where), SHAREGPT, where)
    elif isinstance(row["prompt"], list) and isinstance(row["completion"], list):
        messages = _messages([*row["prompt"], *row["completion"]], " and ".join(PAIR), where)
    else:
        return _pair(row, completion_only, id, source)
    if not any(m["role"] == "assistant" and (content(m).strip() or m.get("tool_calls")) for m in messages):
        return LeftOut(where, "the chat has no answer of the assistant" if messages else "the chat has no message")
    text = "\n\n".join(f"{message['role']}: {content(message)}" for message in messages)
    return Document(id, source, text, messages=messages, completion_only=completion_only)


def _pair(row: Mapping[str, Any], completion_only: bool, id: str, source: str) -> Document | LeftOut:
    prompt, completion = (_text(row[column], column, place(id, source)) for column in PAIR)
    if not completion.strip():
        return LeftOut(place(id, source), "the completion is blank")
    return Document(id, source, prompt + completion, prompt=prompt, completion_only=completion_only)


def _text(value: Any, column: str, where: str) -> str:
    if value is not None and not isinstance(value, str):
        raise UserError(f"column {column} of {where}: the value is of type {type(value).__name__}, not text.")
    return well_formed(value or "")


def _from_sharegpt(messages: Any, where: str) -> Any:
    """Messages with "from" and "value" as messages with "role" and "content"; others stay as they are."""
    if not isinstance(messages, list):
        return messages
    return [_renamed(m, where) if isinstance(m, Mapping) and m.get("from") is not None else m for m in messages]


def _renamed(message: Mapping[str, Any], where: str) -> dict[str, Any]:
    if not isinstance(message["from"], str) or message["from"] not in SHAREGPT_ROLES:
        raise UserError(
            f"column {SHAREGPT} of {where}: a message is from {message['from']!r}; known are "
            f"{', '.join(SHAREGPT_ROLES)}. Rename it, or provide the column {CHAT}."
        )
    return {"role": SHAREGPT_ROLES[message["from"]], "content": message.get("value")}


def _messages(found: Any, column: str, where: str) -> tuple[dict[str, Any], ...]:
    """The messages of a chat; none if the value is missing."""
    is_chat = found is None or isinstance(found, list)
    if not is_chat or not all(isinstance(m, Mapping) and isinstance(m.get("role"), str) for m in found or []):
        keys = "'from' and 'value'" if column == SHAREGPT else "'role' and 'content'"
        raise UserError(
            f"column {column} of {where}: expected a list of messages with {keys}, such as {_EXAMPLE[keys]}."
        )
    return tuple(_with_text(_cleaned(message), column, where) for message in found or [])


_EXAMPLE = {
    "'role' and 'content'": '[{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]',
    "'from' and 'value'": '[{"from": "human", "value": "Hello"}, {"from": "gpt", "value": "Hi"}]',
}


def _cleaned(value: Any) -> Any:
    """A message with well-formed text, and without None, with which Parquet fills keys that other messages have."""
    if isinstance(value, Mapping):
        return {key: _cleaned(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_cleaned(item) for item in value]
    return well_formed(value) if isinstance(value, str) else value


def _with_text(message: dict[str, Any], column: str, where: str) -> dict[str, Any]:
    """A message whose content is a text: parts of text are joined, since many templates would print the list itself."""
    found = message.get("content", "")
    parts = found if isinstance(found, list) else []
    if not isinstance(found, str | list) or not all(map(_is_text, parts)):
        raise UserError(
            f"column {column} of {where}: the content of a message is neither text nor a list of parts such as "
            '{"type": "text", "text": "Hello"}. Images and other parts cannot be trained on.'
        )
    return message | {"content": content(message)} if isinstance(found, list) else message


def _is_text(part: Any) -> bool:
    return isinstance(part, Mapping) and part.get("type", "text") == "text" and isinstance(part.get("text", ""), str)
