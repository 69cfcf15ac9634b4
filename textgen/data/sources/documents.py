"""Reading documents from their sources, one at a time."""

from collections.abc import Iterator
from pathlib import Path

from textgen.data.config import DataConfig
from textgen.data.document import Document
from textgen.data.formats.file_to_read import FileToRead
from textgen.data.formats.table import find_format
from textgen.data.sources.bundled import find_bundled
from textgen.data.sources.hub import hub_texts
from textgen.data.sources.source import Source


def read_documents(sources: list[Source], config: DataConfig, *, setting: str = "--data") -> Iterator[Document]:
    """Every document of the sources, in order; texts that are empty or only white space are skipped.

    Args:
        sources: where the documents are.
        config: names the text column, and says how text files are divided into documents.
        setting: the flag that named the sources, for error messages.

    Raises:
        UserError: a table has no text column, or a file is damaged.
    """
    for source in sources:
        for i, text in enumerate(_texts(source, config, setting)):
            if text and not text.isspace():
                yield Document(f"{source.name}#{i}", source.name, text)


def _texts(source: Source, config: DataConfig, setting: str) -> Iterator[str]:
    if source.kind == "bundled":
        bundled = find_bundled(source.location, setting=setting)
        assert bundled, "find_sources found it"
        return iter(bundled.texts())
    if source.kind == "hub":
        return hub_texts(source, config, setting)
    path = Path(source.location)
    found = find_format(path)
    assert found, "find_sources checked it"
    return found.read(FileToRead(path, setting, config.text_column, config.one_document))
