"""Rows of a table → documents: a text, a prompt with its completion, or a chat, by the columns that there are."""

from collections.abc import Mapping
from typing import Any

from textgen.data.document import Document, content
from textgen.errors import UserError

PAIR = ("prompt", "completion")
CHAT = "messages"


def document_of(
    row: Mapping[str, Any], *, text_column: str, completion_only: bool, id: str, source: str
) -> Document | None:
    """The document in a row; None if there is nothing to train on: a missing or blank text, completion or answer.

    The text column comes first, then ``messages``, then ``prompt`` and ``completion``. If prompt and completion are
    lists of messages, they are a chat together.

    Args:
        row: column → value.
        text_column: the column of plain texts.
        completion_only: whether prompts and the messages of users are left out of the loss.
        id: the document's id.
        source: the document's source.

    Raises:
        UserError: the row has none of these columns, or something else than text or messages in them.
    """
    if text_column in row:
        text = _text(row, text_column, source)
        return Document(id, source, text) if text.strip() else None
    if CHAT in row:
        return _chat(row[CHAT], completion_only, id, source)
    if row.keys() >= set(PAIR):
        if isinstance(row["prompt"], list) and isinstance(row["completion"], list):
            return _chat([*row["prompt"], *row["completion"]], completion_only, id, source)
        prompt, completion = (_text(row, column, source) for column in PAIR)
        if not completion.strip():
            return None
        return Document(id, source, prompt + completion, prompt=prompt, completion_only=completion_only)
    raise UserError(
        f"--text-column {text_column}: {source} has no such column, nor '{CHAT}', nor '{PAIR[0]}' and '{PAIR[1]}'. "
        f"It has: {', '.join(map(str, row))}."
    )


def _text(row: Mapping[str, Any], column: str, source: str) -> str:
    value = row[column]
    if value is not None and not isinstance(value, str):
        raise UserError(f"column {column} of {source}: the value is of type {type(value).__name__}, not text.")
    return value or ""


def _chat(messages: Any, completion_only: bool, id: str, source: str) -> Document | None:
    if messages is None or messages == []:
        return None
    if not isinstance(messages, list) or not all(
        isinstance(m, Mapping) and isinstance(m.get("role"), str) for m in messages
    ):
        raise UserError(
            f"column {CHAT} of {source}: expected a list of messages with 'role' and 'content', such as "
            '[{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}].'
        )
    # `datasets` and Parquet fill the keys that only some messages have with None, which templates do not expect.
    cleaned = tuple({key: value for key, value in message.items() if value is not None} for message in messages)
    if not any(m["role"] == "assistant" and content(m).strip() for m in cleaned):
        return None
    text = "\n\n".join(f"{message['role']}: {content(message)}" for message in cleaned)
    return Document(id, source, text, messages=cleaned, completion_only=completion_only)
