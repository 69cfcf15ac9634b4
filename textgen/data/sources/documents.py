"""Reading documents from their sources, one at a time."""

from collections.abc import Iterator
from pathlib import Path

from textgen.data.config import DataConfig
from textgen.data.document import Document
from textgen.data.examples.rows import LeftOut, example_of
from textgen.data.formats.file_to_read import FileToRead, Row
from textgen.data.formats.table import find_format
from textgen.data.sources.bundled import find_bundled
from textgen.data.sources.hub import hub_rows
from textgen.data.sources.source import Source


def read_documents(sources: list[Source], config: DataConfig, *, setting: str = "--data") -> Iterator[Document]:
    """Every document of the sources, in order; texts and completions that are empty or only white space are skipped.

    Args:
        sources: where the documents are.
        config: names the text column, and says how text files are divided into documents.
        setting: the flag that named the sources, for error messages.

    Raises:
        UserError: a table has no text column, or a file is damaged.
    """
    return (found for found in read_rows(sources, config, setting=setting) if isinstance(found, Document))


def read_rows(sources: list[Source], config: DataConfig, *, setting: str = "--data") -> Iterator[Document | LeftOut]:
    """As :func:`read_documents`, with the rows of examples that are left out since there is nothing to train on."""
    for source in sources:
        for i, row in enumerate(_rows(source, config, setting)):
            id = f"{source.name}#{i}"
            if not isinstance(row, str):
                yield example_of(row, completion_only=config.loss_on == "completion", id=id, source=source.name)
            elif row and not row.isspace():
                yield Document(id, source.name, row)


def _rows(source: Source, config: DataConfig, setting: str) -> Iterator[Row]:
    if source.kind == "bundled":
        bundled = find_bundled(source.location, setting=setting)
        assert bundled, "find_sources found it"
        return iter(bundled.texts())
    if source.kind == "hub":
        return hub_rows(source, config, setting)
    path = Path(source.location)
    found = find_format(path)
    assert found, "find_sources checked it"
    return found.read(FileToRead(path, setting, config.text_column, config.one_document))
