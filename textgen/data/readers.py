"""The documents of ``--data`` that are trained on, and those that are held out."""

from collections.abc import Iterator

from textgen.data.config import DataConfig
from textgen.data.document import Document
from textgen.data.sources import DataSources, find_data, read_documents
from textgen.data.split import is_held_out, resolve_fraction


def held_out_fraction(config: DataConfig, sources: DataSources) -> float:
    """Fraction of ``--data`` to hold out, for :func:`textgen.data.split.is_held_out`; 0 with ``--validation-data``."""
    if sources.held_out is not None:
        return 0.0
    if sources.fraction is not None:
        return sources.fraction
    return resolve_fraction(lambda: read_documents(sources.train, config), config.validation_fraction)


def training_documents(config: DataConfig, sources: DataSources | None = None) -> Iterator[Document]:
    """The documents to train on: all of ``--data`` that is not held out.

    Args:
        config: names the data and the split.
        sources: what :func:`textgen.data.sources.find_data` found, to save finding it again.
    """
    sources = sources or find_data(config)
    fraction = held_out_fraction(config, sources)
    return (d for d in read_documents(sources.train, config) if not is_held_out(d, fraction))


def retained_documents(config: DataConfig, sources: DataSources) -> Iterator[Document]:
    """The documents of ``--retain-data``; none without it."""
    return read_documents(sources.retained or [], config, setting="--retain-data")
