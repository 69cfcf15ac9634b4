"""Held-out documents that share long word n-grams with training documents, with the text that they share.

A model may know such a document by heart, so figures are given with and without them. The unit is GPT-3's (Brown et
al., arXiv 2005.14165, appendix C): a held-out document is contaminated if it shares an n-gram of words (13 by default)
with a training document or, if it is shorter, all of its words with one. Of an example of a task it is the completion
that counts, or the whole example if the completion is shorter: the same answer to another question is no leak. Unlike
in GPT-3's, frequent n-grams count as well, and an n-gram is only looked for in the training text at hand, not in what
the model was pretrained on.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from textgen.data.document import Document
from textgen.data.overlap.held_out_ngrams import NgramIndex, Place
from textgen.data.overlap.near_duplicates import NearDuplicate, NearDuplicates
from textgen.data.overlap.words import locate_words

SHOWN_CHARACTERS = 600  # of a shared passage; its number of words is that of all of it


@dataclass(frozen=True)
class SharedText:
    """What a held-out document shares with training documents.

    Attributes:
        id: the held-out document.
        words: its number of words.
        shared_words: how many of them are in an n-gram that it shares with any training document.
        training_id: the training document that it shares ``passage`` with.
        passage: the longest shared passage, from the held-out document, cut after :data:`SHOWN_CHARACTERS`.
        passage_words: the passage's number of words.
    """

    id: str
    words: int
    shared_words: int
    training_id: str
    passage: str
    passage_words: int


@dataclass(frozen=True)
class Contamination:
    """The contents of ``contamination.json``.

    Attributes:
        ngram_words: length of the n-grams, in words.
        training_documents: number of training documents.
        held_out_documents: number of held-out documents.
        documents: the contaminated ones, the largest share of shared words first.
        near_duplicates: training documents that nearly equal another one; None if they were not counted.
        training_data: the data that the training documents are from, if it is not known that the model learned from it.
    """

    ngram_words: int
    training_documents: int
    held_out_documents: int
    documents: tuple[SharedText, ...]
    near_duplicates: NearDuplicates | None = None
    training_data: str | None = None

    @property
    def ids(self) -> frozenset[str]:
        """Ids of the contaminated documents."""
        return frozenset(document.id for document in self.documents)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Contamination":
        """The inverse of :func:`dataclasses.asdict`.

        Raises:
            TypeError, KeyError: it was not written by this version.
        """
        near = value["near_duplicates"]
        if near is not None:
            near = NearDuplicates(**(near | {"examples": tuple(NearDuplicate(**row) for row in near["examples"])}))
        documents = tuple(SharedText(**row) for row in value["documents"])
        return cls(**(value | {"documents": documents, "near_duplicates": near}))


def find_contamination(held_out: Sequence[Document], training: Iterable[Document], n: int) -> Contamination:
    """Find the held-out documents that share ``n`` words in a row with a training document.

    Args:
        held_out: the documents that are scored; memory is proportional to their text.
        training: the documents to search, read once.
        n: words of an n-gram, at least 2.
    """
    index = NgramIndex(held_out, n)
    index.search(training)
    found = [_shared_text(held_out[i], index.ngrams_of(i), n) for i in index.contaminated()]
    found.sort(key=lambda shared: (-shared.shared_words / shared.words, shared.id))
    return Contamination(n, index.training_documents, len(held_out), tuple(found))


def _shared_text(document: Document, places: Sequence[Place | None], n: int) -> SharedText:
    words = locate_words(document.scored_text)
    n = min(n, len(words))
    covered, longest, passage = 0, 0, (0, 0)
    first = end = 0
    for i, place in enumerate(places):
        if place is None:
            continue
        before = places[i - 1] if i else None
        if before != (place.training_id, place.position - 1):
            first = i  # of a passage that is contiguous in the training document too
        covered += i + n - max(i, end)
        end = i + n
        if end - first > longest:
            longest, passage = end - first, (first, end)
    training = places[passage[0]]
    assert training is not None
    return SharedText(
        id=document.id,
        words=len(words),
        shared_words=covered,
        training_id=training.training_id,
        passage=_shown(document.scored_text[words.span(passage[0], longest)]),
        passage_words=longest,
    )


def _shown(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]} …"
