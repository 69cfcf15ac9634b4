"""The contamination of a run's held-out documents: computed once for the same data, and kept in the cache."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from textgen.checksums import read_sealed
from textgen.data.cache import cache_lock, create_cache, write_to_cache
from textgen.data.config import DataConfig
from textgen.data.document import Document
from textgen.data.overlap.contamination import Contamination, find_contamination
from textgen.data.overlap.near_duplicates import NearDuplicateSearch
from textgen.data.readers import training_documents
from textgen.data.sources import DataSources
from textgen.progress import progress

_FORMAT = 3  # part of the key: increase it if the definition of contamination or the layout changes


def load_contamination(
    config: DataConfig, sources: DataSources, held_out: Sequence[Document], n: int
) -> Contamination | None:
    """The contamination of held-out documents and the near-duplicates among training ones, from the cache.

    The first time, they are computed in one pass over the training text.

    Safe to call from any number of processes at once: one computes it, the others wait. None if ``n`` is 0.

    Args:
        config: names the data and the split.
        sources: where the data is.
        held_out: the documents that are scored.
        n: words of an n-gram.

    Raises:
        UserError: the data cannot be read.
    """
    if not n:
        return None
    path = create_cache("contamination") / f"{_key(config, sources, held_out, n)}.json"
    with cache_lock(path):
        contamination = _read(path)
        if contamination is None:
            with progress("looking for held-out text in the training text", unit="bytes") as advance:
                near_duplicates = NearDuplicateSearch()
                training = near_duplicates.watch(_counted(training_documents(config, sources), advance))
                contamination = find_contamination(held_out, training, n)
                contamination = replace(contamination, near_duplicates=near_duplicates.result())
            write_to_cache(path, asdict(contamination))
    return contamination


def _counted(documents: Iterable[Document], advance: Callable[[float], None]) -> Iterator[Document]:
    for document in documents:
        yield document
        advance(len(document.text))  # characters: exact bytes would cost more than they tell


def _key(config: DataConfig, sources: DataSources, held_out: Sequence[Document], n: int) -> str:
    """A hash of everything that the result depends on."""
    digest = hashlib.sha256()
    settings = [_FORMAT, n, sources.fingerprint, config.text_column, config.one_document, config.validation_fraction]
    settings += [config.loss_on]
    for part in (settings, *([document.id, document.text, document.scored_text] for document in held_out)):
        digest.update(json.dumps(part).encode())
    return digest.hexdigest()[:32]


def _read(path: Path) -> Contamination | None:
    """A result in the cache; None if there is none, or if it is damaged."""
    found = read_sealed(path)
    return None if found is None else Contamination.from_json(found)
