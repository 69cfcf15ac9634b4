"""The documents of ``--data`` that are trained on, and those that are held out."""

from collections.abc import Iterator

from textgen.data.config import DataConfig
from textgen.data.document import Document
from textgen.data.sources import DataSources, find_data, read_documents
from textgen.data.split import is_held_out, resolve_fraction
from textgen.errors import UserError


def held_out_fraction(config: DataConfig, sources: DataSources) -> float:
    """Fraction of ``--data`` to hold out, for :func:`textgen.data.split.is_held_out`; 0 with ``--validation-data``."""
    if sources.held_out is not None:
        return 0.0
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


def held_out_documents(config: DataConfig, sources: DataSources | None = None) -> list[Document]:
    """All of ``--validation-data``, or else the validation split of ``--data``.

    Args:
        config: names the data and the split.
        sources: what :func:`textgen.data.sources.find_data` found, to save finding it again.

    Raises:
        UserError: there is no such document, or the data cannot be read.
    """
    sources = sources or find_data(config)
    if sources.held_out is not None:
        found = list(read_documents(sources.held_out, config, setting="--validation-data"))
    else:
        fraction = held_out_fraction(config, sources)
        found = [d for d in read_documents(sources.train, config) if is_held_out(d, fraction)]
    if not found and config.validation_data:
        raise UserError(f"--validation-data {config.validation_data}: contains no text.")
    if not found:
        raise UserError(
            f"--validation-fraction {config.validation_fraction}: no document of {config.data} falls into the "
            "validation split. Increase it, or specify the text to evaluate with --validation-data."
        )
    return found
