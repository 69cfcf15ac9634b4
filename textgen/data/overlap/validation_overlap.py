"""Whether the text of ``--validation-data`` is really held out, or also in the training text."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice

from textgen.data.cache import create_cache
from textgen.data.config import DataConfig
from textgen.data.sources import DataSources, Source, read_documents
from textgen.data.split import split_hash
from textgen.errors import UserError
from textgen.files import read_json, write_json

_BATCH = 10_000  # training documents that are looked up at a time


@dataclass(frozen=True)
class Overlap:
    """The documents that ``--validation-data`` and ``--data`` share: with equal texts, up to white space.

    Attributes:
        validation_documents: number of held-out documents.
        validation_documents_in_train: of these, how many are in the training text.
        train_documents_in_validation: number of training documents that are held-out ones.
    """

    validation_documents: int
    validation_documents_in_train: int
    train_documents_in_validation: int


def check_sources(config: DataConfig, sources: DataSources) -> None:
    """Check that ``--validation-data`` does not name the same content as ``--data``.

    Raises:
        UserError: every one of its sources is a source of ``--data`` too.
    """
    train = {_content(source) for source in sources.train}
    if sources.held_out and all(_content(source) in train for source in sources.held_out):
        raise _all_shared(config)


def check_overlap(config: DataConfig, sources: DataSources, echo: Callable[[str], None]) -> None:
    """Check that ``--validation-data`` has documents that are not in ``--data``, and print how many are.

    The count is kept in the cache. It reads all data once, in the memory of eight bytes for each held-out document.

    Raises:
        UserError: all documents are in ``--data`` too.
    """
    from filelock import FileLock

    if sources.held_out is None:
        return
    key = json.dumps([sources.fingerprint, config.text_column, config.one_document])
    path = create_cache("overlap") / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"
    with FileLock(f"{path}.lock"):  # the first process counts, the others wait
        if known := read_json(path):
            found = Overlap(**known)
        else:
            found = count_overlap(config, sources)
            write_json(path, asdict(found))
    shared, documents = found.validation_documents_in_train, found.validation_documents
    if documents and shared == documents:
        raise _all_shared(config)
    if shared:
        echo(
            f"warning: {shared:,} of the {documents:,} documents of --validation-data {config.validation_data} are in "
            f"--data {config.data} too, {found.train_documents_in_validation:,} times. The model is trained on them, "
            "so the figures are too good. Remove them from one of the two."
        )


def count_overlap(config: DataConfig, sources: DataSources) -> Overlap:
    """Count the shared documents."""
    import numpy as np

    held_out = read_documents(sources.held_out or [], config, setting="--validation-data")
    known, number = np.unique(np.fromiter(map(split_hash, held_out), np.float64), return_counts=True)
    found = np.zeros(len(known), bool)
    train = 0
    hashes = map(split_hash, read_documents(sources.train, config) if len(known) else ())
    for batch in _batches(hashes):
        index = np.minimum(np.searchsorted(known, batch), len(known) - 1)
        is_shared = known[index] == batch
        found[index[is_shared]] = True
        train += int(is_shared.sum())
    return Overlap(int(number.sum()), int(number[found].sum()), train)


def _batches(hashes: Iterator[float]) -> Iterator[list[float]]:
    while batch := list(islice(hashes, _BATCH)):
        yield batch


def _content(source: Source) -> tuple[str, str]:
    # The fingerprint of a hub dataset is that of all its splits.
    return source.fingerprint, source.location if source.kind == "hub" else ""


def _all_shared(config: DataConfig) -> UserError:
    return UserError(
        f"--validation-data {config.validation_data}: all of it is also in --data {config.data}, so nothing would be "
        "held out. Name other text, or omit --validation-data to hold out part of --data."
    )
