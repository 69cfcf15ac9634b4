"""A document: one text, with its source and an id."""

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
