"""Documents → token ids, and which of them are targets.

An example's tokens are those of its text as a whole (:mod:`textgen.data.examples.encode_parts`), and begin with those
of its prompt alone, which the model continues when it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textgen.data.document import Document
from textgen.data.examples.chat import Part, chat_parts
from textgen.data.examples.encode_parts import Section, encode_sections
from textgen.data.examples.rows import place
from textgen.data.examples.special_names import SpecialNames, cut_at_special_tokens
from textgen.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PROBLEMS_SHOWN = 10

Piece = tuple[int | Section, tuple[bool, ...]]  # a special token or a text, and whether each of its parts is scored


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
        if self.scored is None:
            return []
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
        return chat_parts(tokenizer, document.messages, completion_only=document.completion_only)
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
        encode_texts: does what :func:`textgen.data.tokenization.encode_batch` does with this tokenizer, in another way.

    Raises:
        UserError: chats cannot be written by the tokenizer's template; each is named, with its file and row.
    """
    pieces = _all_pieces(tokenizer, documents)
    sections = [piece for document_pieces in pieces for piece, _ in document_pieces if isinstance(piece, Section)]
    ids = iter(encode_sections(tokenizer, sections, encode_texts))
    return [_joined(document_pieces, ids) for document_pieces in pieces]


def check_documents(tokenizer: PreTrainedTokenizerBase, documents: Sequence[Document]) -> None:
    """Check that documents can be encoded, without encoding them.

    Raises:
        UserError: chats cannot be written by the tokenizer's template; each is named, with its file and row.
    """
    _all_pieces(tokenizer, [document for document in documents if document.messages])


def _all_pieces(tokenizer: PreTrainedTokenizerBase, documents: Sequence[Document]) -> list[list[Piece]]:
    names = SpecialNames.of(tokenizer) if any(document.messages for document in documents) else None
    pieces: list[list[Piece]] = []
    problems: list[str] = []
    for document in documents:
        try:
            pieces.append(list(_pieces(tokenizer, names, document)))
        except UserError as error:
            problems.append(f"{place(document.id, document.source)}: {error}")
    if problems:
        raise _refused(problems)
    return pieces


def _refused(problems: Sequence[str]) -> UserError:
    """The error that lists the first of the chats that cannot be written."""
    more = len(problems) - _PROBLEMS_SHOWN
    others = [f"and {more:,} more near these"] if more > 0 else []
    return UserError.of([*problems[:_PROBLEMS_SHOWN], *others])


def _pieces(tokenizer: PreTrainedTokenizerBase, names: SpecialNames | None, document: Document) -> Iterator[Piece]:
    """The special tokens of a document and the texts between them."""
    parts = document_parts(tokenizer, document)
    cut: Iterable[tuple[str | int, bool]] = parts
    if names and document.messages:
        cut = cut_at_special_tokens(tokenizer, names, document, parts)
    text: list[Part] = []
    after = False
    for piece, scored in cut:
        if isinstance(piece, str):
            text.append((piece, scored))
            continue
        if text:
            yield _section(text, after)
        yield piece, (scored,)
        text, after = [], True
    if text:
        yield _section(text, after)


def _section(text: Sequence[Part], after: bool) -> Piece:
    return Section(tuple(part for part, _ in text), after), tuple(scored for _, scored in text)


def _joined(pieces: Sequence[Piece], ids: Iterator[list[list[int]]]) -> EncodedDocument:
    parts: list[tuple[list[int], bool]] = []
    for piece, scored in pieces:
        parts += zip([[piece]] if isinstance(piece, int) else next(ids), scored, strict=True)
    if len(parts) == 1 and parts[0][1]:  # a plain text: nothing per token, of which there are millions a second
        return EncodedDocument(parts[0][0])
    tokens = [token for part, _ in parts for token in part]
    if all(target for part, target in parts if part):
        return EncodedDocument(tokens)
    return EncodedDocument(tokens, [target for part, target in parts for _ in part])
