"""The words of texts as arrays, and hashes of word n-grams.

A word is what is left of a piece of text between white space when it is lower-cased and everything but letters, digits
and combining marks is deleted: "Don't stop — it's 3.14!" has the words dont, stop, its, 314. This is the unit of the
contamination analysis of GPT-3, "a lowercase, whitespace delimited word with no punctuation" (Brown et al., arXiv
2005.14165, appendix C). Scripts without spaces between words (Han, kana, Thai, Lao, Tibetan, Burmese, Khmer) would have
whole sentences as words; there, each character is one.
"""

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import numpy as np

_SPACE = 1
_FIRST = 1 << 30  # flag of a word's first character
_SINGLE = 1 << 31  # flag of a character that is a word of its own
_UNKNOWN = (1 << 32) - 1
_BREAK = 0x110000  # what separates texts: a word that no text contains
_BETWEEN_TEXTS = np.array([ord(" "), _BREAK, ord(" ")], np.uint32).tobytes()

_WITHOUT_SPACES = (  # Unicode blocks
    (0x0E00, 0x109F),  # Thai, Lao, Tibetan, Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x3040, 0x30FF),  # kana
    (0x3400, 0x9FFF),  # Han
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)

_BASE = 0x9E3779B97F4A7C15  # of the polynomial hash: odd, so that it has an inverse modulo 2^64


@dataclass(frozen=True)
class Words:
    """The words of one or more texts; between two texts is a word that occurs in none, so no n-gram of a text has it.

    Attributes:
        codes: (C,) uint32, the characters of all words, without spaces. A word's first character is flagged, so that
            equal slices from word to word are equal words.
        starts: (W + 1,) int64, where each word starts in ``codes``; the last is C.
        origins: (C,) int64, where each character is in the text; None unless :func:`locate_words` made it.
    """

    codes: np.ndarray
    starts: np.ndarray
    origins: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.starts) - 1

    def key(self, first: int, count: int) -> bytes:
        """``count`` words as bytes: equal if and only if the words are."""
        return self.codes[self.starts[first] : self.starts[first + count]].tobytes()

    def breaks(self) -> np.ndarray:
        """Indices of the words between texts: one less than there are texts."""
        return np.flatnonzero(self.codes[self.starts[:-1]] == _BREAK | _FIRST)

    def span(self, first: int, count: int) -> slice:
        """Where ``count`` words are in the text, from the first character to the last; for :func:`locate_words`."""
        assert self.origins is not None
        return slice(int(self.origins[self.starts[first]]), int(self.origins[self.starts[first + count] - 1]) + 1)


def split_words(texts: Iterable[str]) -> Words:
    """The words of texts, one text after the other."""
    characters = _BETWEEN_TEXTS.join(text.encode("utf-32-le", "surrogatepass") for text in texts)
    folded = _fold(np.frombuffer(characters, "<u4"))
    return _words(folded, folded != 0, located=False)


def locate_words(text: str) -> Words:
    """The words of one text, and where they are in it; a little slower than :func:`split_words`."""
    folded = _fold(np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4"))
    return _words(folded, np.flatnonzero(folded), located=True)


def _words(folded: np.ndarray, kept: np.ndarray, *, located: bool) -> Words:
    """The words of folded characters, of which ``kept`` (a mask or indices) are not deleted."""
    codes = folded[kept]
    space = codes == _SPACE
    first = ~space
    first[1:] &= space[:-1]
    single = codes >= _SINGLE
    if single.any():
        first |= single
        first[1:] |= single[:-1] & ~space[1:]
        codes[single] ^= np.uint32(_SINGLE)
    codes |= first * np.uint32(_FIRST)
    letters = ~space
    codes = codes[letters]
    starts = np.flatnonzero(codes >= _FIRST)
    return Words(codes, np.append(starts, len(codes)), kept[letters] if located else None)


def ngram_hashes(words: Words, n: int) -> np.ndarray:
    """(max(0, W − n + 1),) uint64, a hash of each n-gram; equal n-grams have equal hashes.

    The hash of characters c_0 … c_k is Σ c_i · base^i modulo 2^64 (Karp & Rabin 1987), from one running sum over the
    text: (sum up to the end − sum up to the start) / base^start.
    """
    powers, inverses = _powers(1 << (len(words.codes)).bit_length())
    sums = np.zeros(len(words.codes) + 1, np.uint64)
    np.cumsum(words.codes * powers[: len(words.codes)], out=sums[1:])
    sums = sums[words.starts]
    return (sums[n:] - sums[:-n]) * inverses[words.starts[:-n]]


def _fold(characters: np.ndarray) -> np.ndarray:
    """What each character becomes: 0 if it is deleted, :data:`_SPACE`, or a lower-case character with its flag."""
    table = _folding()
    folded = table.take(characters)
    new = folded == _UNKNOWN
    if new.any():
        for code in np.unique(characters[new]).tolist():
            table[code] = _fold_character(code)
        folded = table.take(characters)
    return folded


@cache
def _folding() -> np.ndarray:
    """The table of :func:`_fold`, filled as characters occur: for all of Unicode, that would take a second."""
    table = np.full(_BREAK + 1, _UNKNOWN, np.uint32)
    table[_BREAK] = _BREAK
    return table


def _fold_character(code: int) -> int:
    character = chr(code)
    if unicodedata.category(character)[0] not in "LMN":
        return _SPACE if character.isspace() else 0
    lower = character.lower()
    folded = ord(lower) if len(lower) == 1 else code  # one character of Unicode becomes two
    return folded | _SINGLE if any(low <= code <= high for low, high in _WITHOUT_SPACES) else folded


@cache
def _powers(length: int) -> tuple[np.ndarray, np.ndarray]:
    """base^0 … base^(length − 1) and their inverses, modulo 2^64."""

    def powers_of(base: int) -> np.ndarray:
        factors = np.full(length, base, np.uint64)
        factors[0] = 1
        return np.cumprod(factors, dtype=np.uint64)

    return powers_of(_BASE), powers_of(pow(_BASE, -1, 1 << 64))
