"""Reads what a path names, or the message of why it cannot be read."""

import pytest

from textgen.data.config import DataConfig
from textgen.data.sources import find_sources, read_documents
from textgen.errors import UserError


def texts(data: object, **settings: object) -> dict[str, str]:
    """Id → text of every document."""
    config = DataConfig(data=str(data), **settings)  # type: ignore[arg-type]
    documents = list(read_documents(find_sources(config.data, config), config))
    found = {document.id: document.text for document in documents}
    assert len(found) == len(documents), "two documents have the same id"
    return found


def error_message(data: object, **settings: object) -> str:
    with pytest.raises(UserError) as caught:
        texts(data, **settings)
    return str(caught.value)
