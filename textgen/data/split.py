"""The split into training and validation documents: by a hash of each text, before anything is tokenized.

Equal texts are always on the same side (ignoring white space, so that a re-wrapped copy does not leak), and adding or
reordering documents moves no other document to the other side. The token cache, the evaluation recipe, the dry run and
the training of a tokenizer all use this split.
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
    """Whether the document is in a validation split of this size; depends only on its text."""
    return split_hash(document) < fraction


def resolve_fraction(read: Callable[[], Iterable[Document]], fraction: float) -> float:
    """The validation fraction to use, so that at least one of several documents is held out.

    Usually this is ``fraction`` itself, which is certain as soon as one document's hash is below it. With a handful of
    documents, a small fraction can hold out none by chance; then the result is just large enough to hold out the
    document with the lowest hash. With fewer than two documents it is 0: none can be held out.

    Args:
        read: returns an iterator over all documents.
        fraction: the requested fraction.
    """
    lowest, documents = 1.0, 0
    for document in read():
        hashed = split_hash(document)
        if hashed < fraction:
            return fraction
        lowest, documents = min(lowest, hashed), documents + 1
    return math.nextafter(lowest, 2) if documents >= 2 else 0.0
