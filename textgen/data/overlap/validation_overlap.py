"""Whether the text of ``--validation-data`` is really held out, and that of ``--retain-data`` other text."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice

from textgen.checksums import read_sealed
from textgen.data.cache import cache_lock, create_cache, write_to_cache
from textgen.data.config import DataConfig
from textgen.data.readers import training_documents
from textgen.data.sources import DataSources, Source, read_documents
from textgen.data.split import split_hash
from textgen.errors import UserError

_BATCH = 10_000  # training documents that are looked up at a time
_FORMAT = 3  # part of the key of a count in the cache: increase it if what is counted changes


@dataclass(frozen=True)
class Untrained:
    """Text that the model must not be trained on.

    Attributes:
        setting: the flag that names it.
        data: the flag's value.
        sources: where it is.
        remedy: what to do if all of it is in ``--data``.
    """

    setting: str
    data: str
    sources: list[Source]
    remedy: str


@dataclass(frozen=True)
class Overlap:
    """The documents that some text and the training documents share: with equal texts, up to white space.

    Attributes:
        documents: number of documents of the text.
        documents_in_train: of these, how many are training documents.
        train_documents: number of training documents that are in the text.
    """

    documents: int
    documents_in_train: int
    train_documents: int


def check_sources(config: DataConfig, sources: DataSources) -> None:
    """Check that neither ``--validation-data`` nor ``--retain-data`` names the same content as ``--data``.

    Raises:
        UserError: every one of its sources is a source of ``--data`` too.
    """
    train = {_content(source) for source in sources.train}
    same = [text for text in _untrained(config, sources) if all(_content(s) in train for s in text.sources)]
    if same:
        raise UserError.of([_all_shared(config, text) for text in same])


def check_overlap(config: DataConfig, sources: DataSources, echo: Callable[[str], None]) -> None:
    """Check that these texts have documents that are not trained on, and print how many are.

    The counts are kept in the cache. Each reads all data once, in the memory of eight bytes for each document of the
    text.

    Raises:
        UserError: all documents of one of them are trained on.
    """
    for text in _untrained(config, sources):
        settings = [config.text_column, config.one_document, config.validation_fraction]
        key = json.dumps([_FORMAT, sources.fingerprint, *settings, text.setting, [s.fingerprint for s in text.sources]])
        path = create_cache("overlap") / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"
        with cache_lock(path):  # the first process counts, the others wait
            if known := read_sealed(path):
                found = Overlap(**known)
            else:
                found = count_overlap(config, sources, text)
                write_to_cache(path, asdict(found))
        if found.documents and found.documents_in_train == found.documents:
            raise UserError(_all_shared(config, text))
        if found.documents_in_train:
            echo(
                f"warning: {found.documents_in_train:,} of the {found.documents:,} documents of {text.setting} "
                f"{text.data} are in --data {config.data} too, {found.train_documents:,} times. The model is trained "
                "on them, so the figures are too good. Remove them from one of the two."
            )


def count_overlap(config: DataConfig, sources: DataSources, text: Untrained) -> Overlap:
    """Count the documents that a text shares with the training documents."""
    import numpy as np

    documents = read_documents(text.sources, config, setting=text.setting)
    known, number = np.unique(np.fromiter(map(split_hash, documents), np.float64), return_counts=True)
    found = np.zeros(len(known), bool)
    train = 0
    hashes = map(split_hash, training_documents(config, sources) if len(known) else ())
    for batch in _batches(hashes):
        index = np.minimum(np.searchsorted(known, batch), len(known) - 1)
        is_shared = known[index] == batch
        found[index[is_shared]] = True
        train += int(is_shared.sum())
    return Overlap(int(number.sum()), int(number[found].sum()), train)


def _untrained(config: DataConfig, sources: DataSources) -> Iterator[Untrained]:
    if sources.held_out is not None:
        remedy = "nothing would be held out. Name other text, or omit --validation-data to hold out part of --data."
        yield Untrained("--validation-data", str(config.validation_data), sources.held_out, remedy)
    if sources.retained is not None:
        remedy = "it would not show what training costs elsewhere. Name text that is not trained on."
        yield Untrained("--retain-data", str(config.retain_data), sources.retained, remedy)


def _batches(hashes: Iterator[float]) -> Iterator[list[float]]:
    while batch := list(islice(hashes, _BATCH)):
        yield batch


def _content(source: Source) -> tuple[str, str]:
    # The fingerprint of a hub dataset is that of all its splits.
    return source.fingerprint, source.location if source.kind == "hub" else ""


def _all_shared(config: DataConfig, text: Untrained) -> str:
    return f"{text.setting} {text.data}: all of it is also in --data {config.data}, so {text.remedy}"
