"""Documents → token ids, and which of them are targets.

The parts of an example are tokenized separately, as they are when the model is used: first the prompt, which the model
then continues.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textgen.data.document import Document, content
from textgen.data.examples.chat import Part, chat_parts, write_chat
from textgen.data.tokenization import encode_batch
from textgen.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class EncodedDocument:
    """A document's token ids.

    Attributes:
        ids: token ids, without the special tokens around documents.
        scored: for each id, whether it is a target; None: all of them.
    """

    ids: list[int]
    scored: list[bool] | None = None

    def after(self, prefix: int) -> EncodedDocument:
        """What follows the token before a document: without that token, if a chat template has written it already."""
        if self.ids[:1] != [prefix]:
            return self
        return EncodedDocument(self.ids[1:], None if self.scored is None else self.scored[1:])

    def until(self, suffix: int) -> EncodedDocument:
        """What precedes the token after a document: without that token, if a chat template has written it already."""
        if self.ids[-1:] != [suffix]:
            return self
        return EncodedDocument(self.ids[:-1], None if self.scored is None else self.scored[:-1])

    def scored_runs(self) -> list[tuple[int, int]]:
        """Start and end of each run of targets, in order."""
        if self.scored is None:
            return [(0, len(self.ids))]
        edges = [False, *self.scored, False]
        starts = [i for i in range(len(self.ids)) if edges[i + 1] and not edges[i]]
        ends = [i for i in range(1, len(self.ids) + 1) if edges[i] and not edges[i + 1]]
        return list(zip(starts, ends, strict=True))

    def edges(self) -> list[int]:
        """Start and end of each run of tokens that are no targets, one after another.

        If the last token is none, the special token after the document is none either.
        """
        runs = self.scored_runs()
        starts, ends = [0, *(end for _, end in runs)], [*(start for start, _ in runs), len(self.ids)]
        found = [edge for run in zip(starts, ends, strict=True) if run[0] < run[1] for edge in run]
        if found and found[-1] == len(self.ids):
            found[-1] += 1
        return found

    @property
    def prompt_length(self) -> int:
        """Number of tokens before the last run of targets; 0 if everything is scored."""
        runs = self.scored_runs()
        return runs[-1][0] if runs else 0


def document_parts(tokenizer: PreTrainedTokenizerBase, document: Document) -> list[Part]:
    """The text that the model reads of a document, in parts that are scored or not; all one part for a plain text.

    Raises:
        UserError: it is a chat, and the tokenizer's template cannot write it.
    """
    if document.messages:
        try:
            return chat_parts(tokenizer, document.messages, completion_only=document.completion_only)
        except UserError as error:
            raise UserError(f"{document.id}: {error}") from None
    if document.prompt is None:
        return [(document.text, True)]
    parts = [(document.prompt, not document.completion_only), (document.text[len(document.prompt) :], True)]
    return [part for part in parts if part[0]]


def encode_documents(
    tokenizer: PreTrainedTokenizerBase,
    documents: Sequence[Document],
    encode_texts: Callable[[list[str]], list[list[int]]] | None = None,
) -> list[EncodedDocument]:
    """Token ids of documents, and which of them are targets.

    In a chat, special tokens are those that the template writes; their names in a message are text.

    Args:
        tokenizer: the model's tokenizer.
        documents: the documents.
        encode_texts: does what :func:`encode_batch` does with this tokenizer, in another way.

    Raises:
        UserError: a chat cannot be written by the tokenizer's template.
    """
    special = _special_tokens(tokenizer) if any(document.messages for document in documents) else {}
    pieces: list[list[tuple[str | int, bool]]] = []
    for document in documents:
        parts = document_parts(tokenizer, document)
        cut = _cut_at_special_tokens(tokenizer, special, document, parts) if document.messages else parts
        pieces.append(list(cut))
    texts = [piece for document_pieces in pieces for piece, _ in document_pieces if isinstance(piece, str)]
    ids = iter(encode_texts(texts) if encode_texts else encode_batch(tokenizer, texts))
    found = []
    for document_pieces in pieces:
        encoded = [([piece] if isinstance(piece, int) else next(ids), scored) for piece, scored in document_pieces]
        flat = [(token, scored) for tokens, scored in encoded for token in tokens]
        scored = [is_scored for _, is_scored in flat]
        found.append(EncodedDocument([token for token, _ in flat], None if all(scored) else scored))
    return found


def _special_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """Name → id of every special token."""
    special = dict(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True))
    return special | {t.content: i for i, t in tokenizer.added_tokens_decoder.items() if t.special}


def _cut_at_special_tokens(
    tokenizer: PreTrainedTokenizerBase, special: Mapping[str, int], document: Document, parts: Sequence[Part]
) -> Iterator[tuple[str | int, bool]]:
    """The parts of a chat with its special tokens as ids, except for those that are written in a message."""
    if not special:
        yield from parts
        return
    pattern = re.compile("|".join(re.escape(name) for name in sorted(special, key=len, reverse=True)))
    quoted = _quoted_names(tokenizer, document, pattern, "".join(text for text, _ in parts))
    position = 0
    for text, scored in parts:
        start = 0
        for match in pattern.finditer(text):
            if position + match.start() in quoted:
                continue
            if match.start() > start:
                yield text[start : match.start()], scored
            yield special[match.group()], scored
            start = match.end()
        if start < len(text):
            yield text[start:], scored
        position += len(text)


def _quoted_names(
    tokenizer: PreTrainedTokenizerBase, document: Document, pattern: re.Pattern[str], written: str
) -> set[int]:
    """Where in a chat, as the template writes it, the name of a special token is part of a message.

    Raises:
        UserError: the template changes such a message, so that the two cannot be told apart.
    """
    texts = [content(message) for message in document.messages]
    if any(pattern.search(str({k: v for k, v in message.items() if k != "content"})) for message in document.messages):
        raise UserError(
            f"{document.id}: the name of a special token is in a role or tool call of a message. Remove it, since the "
            "chat template would make it that token."
        )
    if not any(map(pattern.search, texts)):
        return set()
    marks = [f"\ue000{i}\ue001" for i in range(len(texts))]  # characters for private use, which no text should have
    marked = [{**m, "content": mark} for m, mark in zip(document.messages, marks, strict=True)]
    pieces = re.split("\ue000(\\d+)\ue001", write_chat(tokenizer, marked))
    found: set[int] = set()
    position, copied = 0, ""
    for i, piece in enumerate(pieces):
        if i % 2:
            piece = texts[int(piece)]
            found |= {position + match.start() for match in pattern.finditer(piece)}
        position, copied = position + len(piece), copied + piece
    if copied != written:
        raise UserError(
            f"{document.id}: the name of a special token is in a message that the chat template changes. Remove it "
            "from the message."
        )
    return found
