"""Rows of a table → examples of a task: a prompt with its completion, or a chat, by the columns that there are."""

from collections.abc import Mapping
from typing import Any

from textgen.data.document import Document, content
from textgen.data.formats.file_to_read import CHAT, PAIR
from textgen.data.formats.well_formed import well_formed
from textgen.errors import UserError


def example_of(row: Mapping[str, Any], *, completion_only: bool, id: str, source: str) -> Document | None:
    """The example in a row; None if there is nothing to train on: a missing or blank completion or answer.

    If prompt and completion are lists of messages, they are a chat together.

    Args:
        row: column → value, with those of a chat, or of prompt and completion.
        completion_only: whether prompts and the messages of users are left out of the loss.
        id: the document's id.
        source: the document's source.

    Raises:
        UserError: there is something else than text or messages in the columns.
    """
    if CHAT in row:
        return _chat(row[CHAT], completion_only, id, source)
    if isinstance(row["prompt"], list) and isinstance(row["completion"], list):
        return _chat([*row["prompt"], *row["completion"]], completion_only, id, source)
    prompt, completion = (_text(row, column, id) for column in PAIR)
    if not completion.strip():
        return None
    return Document(id, source, prompt + completion, prompt=prompt, completion_only=completion_only)


def _text(row: Mapping[str, Any], column: str, id: str) -> str:
    value = row[column]
    if value is not None and not isinstance(value, str):
        raise UserError(f"column {column} of {id}: the value is of type {type(value).__name__}, not text.")
    return well_formed(value or "")


def _chat(messages: Any, completion_only: bool, id: str, source: str) -> Document | None:
    if messages is None or messages == []:
        return None
    if not isinstance(messages, list) or not all(
        isinstance(m, Mapping) and isinstance(m.get("role"), str) for m in messages
    ):
        raise UserError(
            f"column {CHAT} of {id}: expected a list of messages with 'role' and 'content', such as "
            '[{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}].'
        )
    cleaned = tuple(_cleaned(message) for message in messages)
    for message in cleaned:
        _check_content(message, id)
    if not any(m["role"] == "assistant" and (content(m).strip() or m.get("tool_calls")) for m in cleaned):
        return None
    text = "\n\n".join(f"{message['role']}: {content(message)}" for message in cleaned)
    return Document(id, source, text, messages=cleaned, completion_only=completion_only)


def _cleaned(value: Any) -> Any:
    """A message with well-formed text, and without None, with which Parquet fills keys that other messages have."""
    if isinstance(value, Mapping):
        return {key: _cleaned(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_cleaned(item) for item in value]
    return well_formed(value) if isinstance(value, str) else value


def _check_content(message: Mapping[str, Any], id: str) -> None:
    found = message.get("content", "")
    parts = found if isinstance(found, list) else []
    are_texts = all(isinstance(part, Mapping) and isinstance(part.get("text", ""), str) for part in parts)
    if not isinstance(found, str | list) or not are_texts:
        raise UserError(
            f"column {CHAT} of {id}: the content of a message is neither text nor a list of parts such as "
            '{"type": "text", "text": "Hello"}.'
        )
