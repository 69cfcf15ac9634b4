"""Which word n-grams of held-out documents occur in training documents: exactly, in one pass over the training text.

The n-grams of the held-out documents are indexed by a hash, and the hashes of all n-grams of the training text are
looked up. A hit counts only if the words are equal, so hashes decide the speed and never the result. Memory is
proportional to the held-out text, whatever the size of the training text: an n-gram that was found is not looked for
again.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from textgen.data.document import Document
from textgen.data.overlap.pieces import Piece, batches
from textgen.data.overlap.words import Words, ngram_hashes, split_words

_SLOTS = 8  # of the first table per n-gram: at most one in eight other n-grams passes it


class Place(NamedTuple):
    """Where n-grams were found: in which training document, from which word of the training text on."""

    training_id: str
    position: int


class NgramIndex:
    """The n-grams of held-out documents, and for each the first place in the training text that has it.

    A document of fewer than ``n`` words counts as one n-gram, and is found only in a training document that has exactly
    these words. Of an example of a task, only the completion is looked for; one of fewer than ``n`` words, like
    "yes", is found only in a training example that has the words of the whole example, prompt included.

    Args:
        documents: the held-out documents.
        n: number of words.

    Attributes:
        training_documents: number of training documents that were searched.
    """

    def __init__(self, documents: Sequence[Document], n: int) -> None:
        self.n = n
        self.training_documents = 0
        hashes = self._index_documents(documents)
        self._order = np.argsort(hashes, kind="stable")
        self._hashes = hashes[self._order]
        self._pending = np.ones(len(self._hashes), bool)  # in the order of ``_hashes``, as ``_order`` is
        bits = max(10, (_SLOTS * len(self._hashes)).bit_length())
        self._shift = np.uint64(64 - bits)
        self._occupied = np.zeros(1 << bits, bool)  # whether some hash begins with these bits
        self._occupied[self._hashes >> self._shift] = True
        self._found = np.full(len(self._order), -1, np.int32)  # by n-gram: index in ``_training_ids``, or -1
        self._positions = np.zeros(len(self._order), np.int64)  # by n-gram: see Place
        self._training_ids: list[str] = []
        self._training_words = 0

    def _index_documents(self, documents: Sequence[Document]) -> np.ndarray:
        """The hashes of all n-grams; their words and owners become attributes."""
        codes, hashes, begins, ends, owners = [], [], [], [], []
        self._short: dict[bytes, list[int]] = {}
        self._short_found: dict[int, str] = {}
        offset = 0
        for batch in batches(documents, self.n):
            words = split_words(piece.text for piece in batch)
            parts = _parts(words, batch, self.n)
            for part in parts:
                if part.short:
                    self._short.setdefault(_short_key(words, part), []).append(part.piece.number)
            inside = np.concatenate([np.arange(p.first, p.first + max(0, p.words - self.n + 1)) for p in parts])
            hashes.append(ngram_hashes(words, self.n)[inside])
            begins.append(words.starts[inside] + offset)
            ends.append(words.starts[inside + self.n] + offset)
            owners += [(part.piece.number, max(0, part.words - self.n + 1)) for part in parts]
            codes.append(words.codes)
            offset += len(words.codes)
        numbers, counts = zip(*owners, strict=True)
        self._firsts = np.append(0, np.bincount(numbers, weights=counts).astype(np.int64).cumsum())
        self._codes = np.concatenate(codes)
        self._begins, self._ends = np.concatenate(begins), np.concatenate(ends)
        return np.concatenate(hashes)

    def search(self, training: Iterable[Document]) -> None:
        """Look for the n-grams in training documents."""
        last = -1
        for batch in batches(training, self.n):
            words = split_words(piece.text for piece in batch)
            breaks = words.breaks()
            if batch[0].number == last:  # it goes on with the document, from n - 1 words before on
                self._training_words -= self.n - 1
            for first, at in self._candidates(ngram_hashes(words, self.n)):
                if self._pending[at]:
                    self._compare(words, first, at, batch[np.searchsorted(breaks, first)].document.id)
            if self._short:
                for part in _parts(words, batch, self.n):
                    if part.short:
                        self._compare_short(_short_key(words, part), part.piece.document.id)
            self._training_words += len(words)
            last = batch[-1].number
        self.training_documents = last + 1

    def _candidates(self, hashes: np.ndarray) -> Iterable[tuple[int, int]]:
        """(n-gram of the training text, index in ``_hashes``) for each hash that is still looked for."""
        if not len(self._hashes):
            return []
        likely = np.flatnonzero(self._occupied.take(hashes >> self._shift))
        at = np.searchsorted(self._hashes, hashes[likely])
        at[at == len(self._hashes)] = 0
        hit = (self._hashes[at] == hashes[likely]) & self._pending[at]
        return zip(likely[hit].tolist(), at[hit].tolist(), strict=True)

    def _compare(self, words: Words, first: int, at: int, training_id: str) -> None:
        """Mark the n-grams with one hash that have the words of the training text from ``first`` on."""
        key = words.key(first, self.n)
        end = int(np.searchsorted(self._hashes, self._hashes[at], side="right"))
        for ngram in self._order[at:end].tolist():
            if self._codes[self._begins[ngram] : self._ends[ngram]].tobytes() == key:
                if not self._training_ids or self._training_ids[-1] != training_id:
                    self._training_ids.append(training_id)
                self._found[ngram] = len(self._training_ids) - 1
                self._positions[ngram] = self._training_words + first
        self._pending[at] = bool((self._found[self._order[at:end]] < 0).any())

    def _compare_short(self, key: bytes, training_id: str) -> None:
        for number in self._short.pop(key, ()):
            self._short_found[number] = training_id

    def ngrams_of(self, number: int) -> list[Place | None]:
        """The n-grams of a held-out document from word 0, 1, … on: the place of each, or None if it was not found."""
        if number in self._short_found:
            return [Place(self._short_found[number], 0)]
        own = slice(self._firsts[number], self._firsts[number + 1])
        places = zip(self._found[own].tolist(), self._positions[own].tolist(), strict=True)
        return [Place(self._training_ids[found], position) if found >= 0 else None for found, position in places]

    def contaminated(self) -> list[int]:
        """The held-out documents with an n-gram that was found, by their number."""
        marked = np.searchsorted(self._firsts, np.flatnonzero(self._found >= 0), side="right") - 1
        return sorted({*np.unique(marked).tolist(), *self._short_found})


@dataclass(frozen=True)
class _Part:
    """The words of one piece of a batch; ``short`` if they are a whole document that is shorter than an n-gram."""

    piece: Piece
    first: int
    words: int
    short: bool


def _short_key(words: Words, part: _Part) -> bytes:
    """The words of a short document, or all of those of an example with a short completion."""
    document = part.piece.document
    if len(document.scored_text) < len(document.text):
        words = split_words([document.text])
        return words.key(0, len(words))
    return words.key(part.first, part.words)


def _parts(words: Words, batch: Sequence[Piece], n: int) -> list[_Part]:
    ends = [*words.breaks().tolist(), len(words)]
    firsts = [0, *(end + 1 for end in ends[:-1])]
    return [
        _Part(piece, first, end - first, 0 < end - first < n and len(piece.text) == len(piece.document.scored_text))
        for piece, first, end in zip(batch, firsts, ends, strict=True)
    ]
