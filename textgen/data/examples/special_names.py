"""The special tokens that a chat template writes, told apart from their names in the text of a message."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textgen.data.document import Document, content
from textgen.data.examples.chat import Part, write_chat
from textgen.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class SpecialNames:
    """The names of a tokenizer's special tokens.

    Attributes:
        ids: name → id.
        pattern: finds a name, with the white space around it that belongs to its token.
    """

    ids: Mapping[str, int]
    pattern: re.Pattern[str]

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> SpecialNames | None:
        """The names of a tokenizer; None if it has no special token."""
        added = {t.content: (i, t) for i, t in tokenizer.added_tokens_decoder.items() if t.special}
        ids = dict(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True))
        ids |= {name: i for name, (i, _) in added.items()}
        strips = {name: (token.lstrip, token.rstrip) for name, (_, token) in added.items()}
        written = []
        for name in sorted(ids, key=len, reverse=True):
            before, after = (r"\s*" if strip else "" for strip in strips.get(name, (False, False)))
            written.append(f"{before}({re.escape(name)}){after}")
        return cls(ids, re.compile("|".join(written))) if ids else None

    def find(self, text: str) -> Iterator[tuple[int, int, int, int]]:
        """Each name in a text: where it begins, its token's id, and the start and end of the text of the token."""
        for match in self.pattern.finditer(text):
            assert match.lastindex
            yield match.start(match.lastindex), self.ids[match[match.lastindex]], match.start(), match.end()


def cut_at_special_tokens(
    tokenizer: PreTrainedTokenizerBase, names: SpecialNames, document: Document, parts: Sequence[Part]
) -> Iterator[tuple[str | int, bool]]:
    """The parts of a chat with its special tokens as ids, except for those that are written in a message."""
    quoted = _quoted_names(tokenizer, document, names, "".join(text for text, _ in parts))
    position = 0
    for text, scored in parts:
        start = 0
        for name, token, begin, end in names.find(text):
            if position + name in quoted:
                continue
            if begin > start:
                yield text[start:begin], scored
            yield token, scored
            start = end
        if start < len(text):
            yield text[start:], scored
        position += len(text)


def _quoted_names(
    tokenizer: PreTrainedTokenizerBase, document: Document, names: SpecialNames, written: str
) -> set[int]:
    """Where in a chat, as the template writes it, the name of a special token is part of a message.

    Raises:
        UserError: the template changes such a message, so that the two cannot be told apart.
    """
    texts = [content(message) for message in document.messages]
    others = (str({k: v for k, v in message.items() if k != "content"}) for message in document.messages)
    if any(map(names.pattern.search, others)):
        raise UserError(
            "the name of a special token is in a role or tool call of a message. Remove it, since the chat template "
            "would make it that token."
        )
    if not any(map(names.pattern.search, texts)):
        return set()
    marks = [f"\ue000{i}\ue001" for i in range(len(texts))]  # characters for private use, which no text should have
    marked = [{**m, "content": mark} for m, mark in zip(document.messages, marks, strict=True)]
    pieces = re.split("\ue000(\\d+)\ue001", write_chat(tokenizer, marked))
    found: set[int] = set()
    position, copied = 0, ""
    for i, piece in enumerate(pieces):
        if i % 2:
            piece = texts[int(piece)]
            found |= {position + name for name, *_ in names.find(piece)}
        position, copied = position + len(piece), copied + piece
    if copied != written:
        raise UserError(
            "the name of a special token is in a message that the chat template changes. Remove it from the message."
        )
    return found
