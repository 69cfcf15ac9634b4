"""Datasets of the Hugging Face hub."""

from collections.abc import Iterator

from textgen.data.config import DataConfig
from textgen.data.sources.source import Source
from textgen.errors import UserError, first_line
from textgen.hub import use_hub


def hub_source(data: str, config: DataConfig, setting: str = "--data") -> Source:
    """A dataset of the hub, ``id`` or ``id:split``; its files are downloaded into the hub's cache.

    Raises:
        UserError: there is no such dataset, or the hub cannot be reached.
    """
    offline = use_hub()
    from datasets import load_dataset_builder

    name, _, _ = data.partition(":")
    try:
        builder = load_dataset_builder(name, config.data_config)
    except Exception as error:  # the hub client raises a dozen unrelated types of errors, offline and online
        reason = first_line(error).removesuffix(".")
        raise UserError(
            f"{setting} {data}: there is no such file or directory, and it cannot be opened as a hub dataset: "
            f"{reason}.{offline}"
        ) from None
    return Source(data, "hub", data, str(builder.hash) + str(builder.config_id))


def hub_texts(source: Source, config: DataConfig, setting: str = "--data") -> Iterator[str]:
    """The text column of a hub dataset; missing values are empty texts.

    Raises:
        UserError: there is no such split or column, or it contains something else than text.
    """
    from datasets import load_dataset

    name, _, split = source.location.partition(":")
    try:
        for i, row in enumerate(load_dataset(name, config.data_config, split=split or "train")):
            if config.text_column not in row:
                raise UserError(
                    f"--text-column {config.text_column}: {setting} {source.location} has no such column. "
                    f"It has: {', '.join(map(str, row))}."
                )
            text = row[config.text_column]
            if text is not None and not isinstance(text, str):
                raise UserError(
                    f"--text-column {config.text_column}: row {i} of {source.location}: the value is of type "
                    f"{type(text).__name__}, not text."
                )
            yield text or ""
    except UserError:
        raise
    except Exception as error:  # `datasets` wraps the errors of all readers in an uninformative one of its own
        cause: BaseException = error
        while isinstance(cause.__cause__, Exception):
            cause = cause.__cause__
        raise UserError(f"{setting} {source.location}: cannot be read: {first_line(cause)}") from None
