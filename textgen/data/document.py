"""A document: one text, with where it came from."""

import hashlib
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Document:
    """One text with its source and an id that is unique within its data, such as ``plays.txt#12``."""

    id: str
    source: str
    text: str

    @property
    def words(self) -> int:
        """Number of words as lm-evaluation-harness counts them: ``len(re.split(r"\\s+", text))``."""
        return len(re.split(r"\s+", self.text))

    @property
    def bytes(self) -> int:
        """Length of the text in UTF-8 bytes."""
        return len(self.text.encode("utf-8"))

    @property
    def share(self) -> float:
        """The hash of the text, white space evened out, as a number from 0 to 1."""
        digest = hashlib.sha256(" ".join(self.text.split()).encode("utf-8")).digest()
        return int.from_bytes(digest[:8], "big") / 2**64

    def in_validation(self, fraction: float) -> bool:
        """Whether the document falls into a validation split of this size, decided by its text alone.

        Equal texts fall on the same side (white space apart, so that a re-wrapped copy does not leak), and adding or
        reordering documents moves none of the others.
        """
        return self.share < fraction


def least_fraction(documents: Iterable[Document]) -> float:
    """The smallest validation fraction that holds one of the documents out; 0 if there are fewer than two.

    For a handful of documents of which a small fraction would hold out none by chance.
    """
    shares = [document.share for document in documents]
    return math.nextafter(min(shares), 2) if len(shares) >= 2 else 0.0
