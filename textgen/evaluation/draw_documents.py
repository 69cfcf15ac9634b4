"""The held-out documents that are scored: a sample of whole documents, the same one for every run and model.

Documents are taken in the order of their hashes (:func:`textgen.data.split.split_hash`), which depend on their texts
alone, until the next one would exceed the requested amount of text. So a smaller sample is contained in a larger one,
and a document that is added to the data changes the sample by little. Amounts are in tokens of :data:`BYTES_PER_TOKEN`
UTF-8 bytes whatever the tokenizer, since models with different tokenizers must be measured on the same documents.
"""

import heapq
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from accelerate import PartialState

from textgen.data.document import Document
from textgen.data.mixture.joined import JoinedDocuments
from textgen.data.split import split_hash
from textgen.data.tokens.held_out import HeldOut
from textgen.evaluation.exchange import on_main
from textgen.printable import counted

BYTES_PER_TOKEN = 4
"""About what a token of GPT-2's has in English; in other languages and with small vocabularies, tokens are shorter."""

Budget = int | Literal["all"]
"""An amount of text in tokens of :data:`BYTES_PER_TOKEN` bytes, or all of it."""


@dataclass(frozen=True)
class DrawnDocuments:
    """The held-out documents that are scored, in the order of the data, and how many there are.

    Attributes:
        documents: those scored before and after training, or by an evaluation of its own; prompts come from them.
        training_documents: those scored during training, a part of ``documents``.
        available_documents: number of all held-out documents.
        available_bytes: their size in UTF-8 bytes.
    """

    documents: Sequence[Document]
    training_documents: Sequence[Document]
    available_documents: int
    available_bytes: int

    @property
    def tokens(self) -> int:
        """Size of ``documents`` in tokens of :data:`BYTES_PER_TOKEN` bytes."""
        return sum(document.bytes for document in self.documents) // BYTES_PER_TOKEN

    def facts(self) -> dict[str, int]:
        """The entries of ``environment.json`` about the held-out documents."""
        return {
            "validation_documents": self.available_documents,
            "evaluation_documents": len(self.documents),
            "training_evaluation_documents": len(self.training_documents),
        }

    def available(self) -> dict[str, int]:
        """What an entry of ``perplexity.json`` was drawn from: number and bytes of all held-out documents."""
        return {"documents_available": self.available_documents, "bytes_available": self.available_bytes}

    def __str__(self) -> str:
        number, every = len(self.documents), self.available_documents
        return counted(number, "document") if number == every else f"{number:,} of {every:,} held-out documents"

    def shares(self) -> str:
        """Which part is scored when, as the end of a sentence; empty if it is always everything."""
        scored = {"before and after training": self.documents, "during training": self.training_documents}
        parts = [f"{len(part):,} {when}" for when, part in scored.items() if len(part) < self.available_documents]
        return f"; scored: {', '.join(parts)}" if parts else ""


def draw_documents(
    documents: Sequence[Document], tokens: Budget = "all", training_tokens: Budget = "all"
) -> DrawnDocuments:
    """Draw the documents to score; the same on every process, of which only the main one looks at all documents.

    Args:
        documents: all held-out documents, the same on every process.
        tokens: how much text to score before and after training; at least one document is drawn.
        training_tokens: how much of that to score during training; at least one document is drawn.
    """
    indices, size = on_main(PartialState(), lambda: lowest_hashes(documents, tokens))
    drawn = documents if indices is None else [documents[index] for index in indices]
    within, _ = lowest_hashes(drawn, training_tokens)
    during = drawn if within is None else [drawn[index] for index in within]
    return DrawnDocuments(drawn, during, len(documents), size)


def lowest_hashes(documents: Iterable[Document], tokens: Budget) -> tuple[list[int] | None, int]:
    """The first documents in the order of their hashes, as far as they fit into an amount of text.

    Reads each document at most once, and keeps numbers of the drawn ones only. Of documents in the cache, it reads no
    text.

    Returns:
        The drawn documents' indices in ascending order, or None for all documents; and the bytes of all documents.
    """
    measured: Iterable[tuple[float, int]] = ((split_hash(document), document.bytes) for document in documents)
    if isinstance(documents, HeldOut | JoinedDocuments):
        measured = documents.hashes_and_bytes()
    if tokens == "all":
        return None, sum(size for _, size in measured)
    limit = tokens * BYTES_PER_TOKEN
    count = total = drawn = 0
    heap: list[tuple[float, int, int]] = []  # (−hash, −index, bytes) of the drawn documents, the highest hash first
    excluded = (-math.inf, 0)  # (−hash, −index) of the first document that does not fit: no later one is drawn
    for index, (hashed, size) in enumerate(measured):
        count, total = count + 1, total + size
        key = (-hashed, -index)
        if key > excluded:
            heapq.heappush(heap, (*key, size))
            drawn += size
        while drawn > limit and len(heap) > 1:
            minus_hash, minus_index, removed = heapq.heappop(heap)
            excluded, drawn = (minus_hash, minus_index), drawn - removed
    return (None if len(heap) == count else sorted(-minus_index for _, minus_index, _ in heap)), total
