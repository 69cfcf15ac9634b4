"""Documents in pieces of bounded size, many short documents together, so that arrays of their words stay small."""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from textgen.data.document import Document
from textgen.data.overlap.words import locate_words

BATCH_CHARACTERS = 1 << 18  # the fastest of 2^16 … 2^20: the arrays of a batch fit into the processor's cache

_WHITE_SPACE = re.compile(r"\s")


class Piece(NamedTuple):
    """A document or, if it is long, a part of it; ``number`` counts the documents from 0."""

    number: int
    document: Document
    text: str


def batches(documents: Iterable[Document], n: int, characters: int = BATCH_CHARACTERS) -> Iterator[list[Piece]]:
    """All documents in order, in lists of pieces of about ``characters`` characters in total.

    Every n-gram of words of a document is in exactly one of its pieces: the next one starts ``n - 1`` words before the
    end of the one before it. A piece is longer than ``characters`` only if there is no white space to cut it at.
    """
    batch: list[Piece] = []
    size = 0
    for number, document in enumerate(documents):
        for text in _cut(document.scored_text, n, characters):
            if batch and size + len(text) > characters:
                yield batch
                batch, size = [], 0
            batch.append(Piece(number, document, text))
            size += len(text)
    if batch:
        yield batch


def _cut(text: str, n: int, characters: int) -> Iterator[str]:
    start = 0
    end = characters
    while end < len(text) and (space := _WHITE_SPACE.search(text, end)):
        following = _last_words(text, start, space.start(), n - 1)
        if following is None:  # too few words: the piece must be longer
            end = space.start() + characters
            continue
        yield text[start : space.start()]
        start = following
        end = start + characters
    yield text[start:] if start else text


def _last_words(text: str, start: int, end: int, count: int) -> int | None:
    """Where the last ``count`` words of ``text[start:end]`` start; None if it has no more words than that."""
    for low in (max(start, end - 32 * count), start):  # the end is usually enough
        words = locate_words(text[low:end])
        if len(words) > count:
            return low + words.span(len(words) - count, count).start
    return None
