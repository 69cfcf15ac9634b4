"""A document: one text, with where it came from."""

import hashlib
import re
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

    def in_validation(self, fraction: float) -> bool:
        """Whether the document falls into a validation split of this size, decided by its text alone.

        The text's hash is read as a number in [0, 1). Equal texts fall on the same side (white space apart, so that a
        re-wrapped copy does not leak), and adding or reordering documents moves none of the others.
        """
        digest = hashlib.sha256(" ".join(self.text.split()).encode("utf-8")).digest()
        return int.from_bytes(digest[:8], "big") < fraction * 2**64
