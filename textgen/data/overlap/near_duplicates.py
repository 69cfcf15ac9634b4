"""Training documents that nearly equal an earlier one: counted by MinHash, in one pass.

Two documents are near-duplicates if at least :data:`SIMILAR` of the different 5-grams of words of both are in both (the
Jaccard similarity of Lee et al., arXiv 2107.06499, "Deduplicating training data makes language models better"). The
share is estimated: under a random order of all 5-grams, the first one of two documents is the same with exactly this
probability (Broder 1997), so the share of agreement over :data:`ORDERS` orders has a standard error of 0.05 at 0.8. Of
each first 5-gram, 16 bits are kept (b-bit minwise hashing, Li & König, arXiv 0910.3349), 128 bytes a document.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from textgen.data.document import Document
from textgen.data.overlap.pieces import BATCH_CHARACTERS, batches
from textgen.data.overlap.words import Words, ngram_hashes, split_words

SHINGLE = 5  # words
ORDERS = 64
SIMILAR = 0.8
EXAMPLES = 12
MOST_DOCUMENTS = 1_000_000
"""More are not compared: memory is limited to about 150 bytes times this number, with the documents' ids."""

_BAND = 4  # orders; documents are compared if they agree in all orders of a band: 99.98 % of those with similarity 0.8
_ROWS = 1 << 16  # compared at a time
_UNKNOWN = np.uint64((1 << 64) - 1)
# Odd, so that multiplication modulo 2^64 is an order of all hashes.
_FACTORS = np.random.default_rng(0).integers(1 << 63, size=ORDERS + 1, dtype=np.uint64) * np.uint64(2) + np.uint64(1)


@dataclass(frozen=True)
class NearDuplicate:
    """A document, an earlier one that it nearly equals, and their estimated similarity."""

    id: str
    earlier_id: str
    similarity: float


@dataclass(frozen=True)
class NearDuplicates:
    """How many documents nearly equal an earlier one.

    Attributes:
        compared: number of documents that were compared: those with a 5-gram, among the first :data:`MOST_DOCUMENTS`.
        found: number of them that nearly equal an earlier one.
        examples: some of these, the most similar first.
    """

    compared: int
    found: int
    examples: tuple[NearDuplicate, ...]


class NearDuplicateSearch:
    """Collects a signature of each document that passes through :meth:`watch`; :meth:`result` compares them."""

    def __init__(self) -> None:
        self._signatures: list[np.ndarray] = []
        self._ids: list[
            str
        ] = []  # of each chunk, joined: a string for each document would take more than its signature

    def watch(self, documents: Iterable[Document]) -> Iterator[Document]:
        """The same documents, one at a time."""
        chunk: list[Document] = []
        size = 0
        for number, document in enumerate(documents):
            yield document
            if number >= MOST_DOCUMENTS:
                continue
            chunk.append(document)
            size += len(document.text)
            if size >= BATCH_CHARACTERS:
                self._add(chunk)
                chunk, size = [], 0
        self._add(chunk)

    def _add(self, documents: list[Document]) -> None:
        found = signatures(documents)
        long_enough = (found != 0).any(axis=1)
        self._signatures.append(found[long_enough])
        ids = [document.id for document, kept in zip(documents, long_enough, strict=True) if kept]
        self._ids.append("\0".join(ids))

    def result(self) -> NearDuplicates:
        """What was found among the documents so far."""
        together = np.concatenate([np.zeros((0, ORDERS), np.uint16), *self._signatures])
        if not len(together):
            return NearDuplicates(0, 0, ())
        earlier, agreement = most_similar_earlier(together)
        found = np.flatnonzero(earlier >= 0)
        best = found[np.argsort(-agreement[found], kind="stable")][:EXAMPLES].tolist()
        examples = (NearDuplicate(self._id(i), self._id(int(earlier[i])), float(agreement[i])) for i in best)
        return NearDuplicates(len(together), len(found), tuple(examples))

    def _id(self, number: int) -> str:
        for part, ids in zip(self._signatures, self._ids, strict=True):
            if number < len(part):
                return ids.split("\0")[number]
            number -= len(part)
        raise AssertionError("no such document")


def signatures(documents: list[Document]) -> np.ndarray:
    """(D, ORDERS) uint16: of each document, the hash of its first 5-gram in each order; zeros if it has no 5-gram."""
    lowest = np.full((len(documents), ORDERS), _UNKNOWN)
    for batch in batches(documents, SHINGLE):
        words = split_words(piece.text for piece in batch)
        firsts, ends = _ngram_ranges(words)
        has = firsts < ends
        if not has.any():
            continue
        edges = np.stack([firsts[has], ends[has]], axis=1).ravel()
        hashes = np.append(ngram_hashes(words, SHINGLE), _UNKNOWN)  # an edge may be at the end
        numbers = np.array([piece.number for piece in batch])[has]
        for order in range(ORDERS):
            minima = np.minimum.reduceat(hashes * _FACTORS[order], edges)[::2]
            np.minimum.at(lowest[:, order], numbers, minima)
    mixed = ((lowest * _FACTORS[ORDERS]) >> np.uint64(48)).astype(np.uint16)
    mixed[(lowest == _UNKNOWN).all(axis=1)] = 0
    return mixed


def _ngram_ranges(words: Words) -> tuple[np.ndarray, np.ndarray]:
    """From which n-gram to which the n-grams of each text go."""
    breaks = words.breaks()
    firsts, ends = np.append(0, breaks + 1), np.append(breaks, len(words))
    return firsts, np.maximum(firsts, ends - SHINGLE + 1)


def most_similar_earlier(together: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each signature, an earlier one that agrees in at least :data:`SIMILAR` of the orders.

    Args:
        together: (D, ORDERS) signatures.

    Returns:
        (D,) index of the earlier signature, or −1, and (D,) the share of orders that agree.
    """
    earlier = np.full(len(together), -1)
    agreement = np.zeros(len(together))
    bands = np.ascontiguousarray(together).view(np.uint64)  # four orders in each number
    assert bands.shape[1] * _BAND == ORDERS
    for band in bands.T:
        order = np.argsort(band, kind="stable")
        new = np.append(True, band[order][1:] != band[order][:-1])
        first = order[np.flatnonzero(new)[np.cumsum(new) - 1]]  # the earliest one with the same band
        for start in range(0, len(order), _ROWS):
            one, other = order[start : start + _ROWS], first[start : start + _ROWS]
            one, other = one[one != other], other[one != other]
            share = (together[one] == together[other]).mean(axis=1)
            better = (share >= SIMILAR) & (share > agreement[one])
            earlier[one[better]], agreement[one[better]] = other[better], share[better]
    return earlier, agreement
