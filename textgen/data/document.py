"""A document: one text, with its source and an id; or an example of a task: a prompt with its completion, or a chat."""

import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload


@dataclass(frozen=True)
class Document:
    """One text with its source and an id that is unique within its data, such as ``plays.txt#12``.

    Attributes:
        id: unique within the data.
        source: name of the file or dataset that it comes from.
        text: all of its text; of a chat, its messages one after the other.
        prompt: for a prompt with its completion: the prompt, with which ``text`` begins.
        messages: for a chat: its messages, each with "role" and "content".
        completion_only: only the completion, or the messages of the assistant, are trained on and scored.
    """

    id: str
    source: str
    text: str
    prompt: str | None = None
    messages: tuple[Mapping[str, Any], ...] = ()
    completion_only: bool = False

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "Document":
        """A document from its fields as JSON has them."""
        return cls(**{**row, "messages": tuple(row.get("messages", ()))})

    @property
    def is_example(self) -> bool:
        """Whether it is an example of a task, not just a text."""
        return self.prompt is not None or bool(self.messages)

    @property
    def scored_text(self) -> str:
        """The text that is scored, without what a chat template adds."""
        if not self.completion_only:
            return self.text
        if self.messages:
            return "\n\n".join(content(message) for message in self.messages if message["role"] == "assistant")
        return self.text[len(self.prompt or "") :]

    @property
    def words(self) -> int:
        """Number of scored words as lm-evaluation-harness counts them: ``len(re.split(r"\\s+", text))``.

        The white space with which a completion begins, to set it apart from its prompt, is no word.
        """
        text = self.scored_text
        return len(re.split(r"\s+", text.strip() if self.completion_only else text))

    @property
    def bytes(self) -> int:
        """Length of the scored text in UTF-8 bytes."""
        return len(self.scored_text.encode("utf-8"))


def content(message: Mapping[str, Any]) -> str:
    """The text of a chat message, also if it is a list of parts, as in ``[{"type": "text", "text": "Hello"}]``."""
    found = message.get("content")
    if isinstance(found, str):
        return found
    return "".join(part.get("text") or "" for part in found or [])


class StoredDocuments(Sequence[Document]):
    """Documents that stay on disk: only those that are asked for are read."""

    @abstractmethod
    def read(self, index: int) -> Document:
        """Read one document; ``index`` is from 0 to the number of documents - 1."""

    @overload
    def __getitem__(self, index: int) -> Document: ...
    @overload
    def __getitem__(self, index: slice) -> list[Document]: ...
    def __getitem__(self, index: int | slice) -> Document | list[Document]:
        if isinstance(index, slice):
            return [self.read(i) for i in range(*index.indices(len(self)))]
        return self.read(range(len(self))[index])  # counts negative indices from the end, and raises IndexError
