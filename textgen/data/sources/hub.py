"""Datasets of the Hugging Face hub."""

from collections.abc import Iterator
from pathlib import Path

from textgen.data.config import DataConfig
from textgen.data.formats.file_to_read import FileToRead, Row
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


def hub_rows(source: Source, config: DataConfig, setting: str = "--data") -> Iterator[Row]:
    """The text column of a hub dataset, or the columns of its examples; missing values are empty texts.

    Raises:
        UserError: there is no such split or column, or it contains something else than text.
    """
    from datasets import load_dataset

    file = FileToRead(Path(source.location), setting, config.text_column)
    name, _, split = source.location.partition(":")
    try:
        table = load_dataset(name, config.data_config, split=split or "train")
        columns = file.columns(table.column_names)
        for i, row in enumerate(table.select_columns(list(columns))):
            if columns != (file.column,):
                yield row
            elif not isinstance(text := row[file.column] or "", str):
                raise file.not_text(f"row {i}", type(text).__name__)
            else:
                yield text
    except UserError:
        raise
    except Exception as error:  # `datasets` wraps the errors of all readers in an uninformative one of its own
        cause: BaseException = error
        while isinstance(cause.__cause__, Exception):
            cause = cause.__cause__
        raise UserError(f"{setting} {source.location}: cannot be read: {first_line(cause)}") from None
