"""The split into training and validation documents: by a hash of each text, before anything is tokenised.

Equal texts fall on the same side (white space apart, so that a re-wrapped copy does not leak), and adding or reordering
documents moves none of the others. Everything that needs one side of the split asks here: the token cache, the
evaluation recipe, the dry run, and the tokenizer's training.
"""

import hashlib
import math
from collections.abc import Callable, Iterable

from textgen.data.document import Document


def split_hash(document: Document) -> float:
    """SHA-256 of the document's text, with runs of white space collapsed, as a number in [0, 1)."""
    digest = hashlib.sha256(" ".join(document.text.split()).encode("utf-8")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def is_held_out(document: Document, fraction: float) -> bool:
    """Whether the document falls into a validation split of this size, decided by its text alone."""
    return split_hash(document) < fraction


def resolve_fraction(read: Callable[[], Iterable[Document]], fraction: float) -> float:
    """The validation fraction in force: at least one of several documents is always held out.

    Usually that is ``fraction`` itself, known as soon as one document falls below it. Of a handful of documents, a
    small fraction may hold out none by chance; then it is the smallest that holds out the one with the lowest hash.
    With fewer than two documents it is 0: nothing can be held out.

    Args:
        read: starts reading the documents from the beginning.
        fraction: the fraction asked for.
    """
    lowest, documents = 1.0, 0
    for document in read():
        hashed = split_hash(document)
        if hashed < fraction:
            return fraction
        lowest, documents = min(lowest, hashed), documents + 1
    return math.nextafter(lowest, 2) if documents >= 2 else 0.0
