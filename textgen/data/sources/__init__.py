"""What ``--data`` names, and the documents in it.

``find.py`` finds the sources, and ``fingerprints.py`` tells when their content changes (``listing.py`` lists files,
``remote.py`` fetches those named by URL, ``hub.py`` has datasets of the hub, ``bundled.py`` and ``markov.py`` texts
that need no files, ``file_checks.py`` checks files); ``documents.py`` reads documents from them, through
``textgen/data/formats/``.
"""

from textgen.data.sources.documents import read_documents, read_rows
from textgen.data.sources.find import find_data, find_sources
from textgen.data.sources.source import DataSources, Source

__all__ = ["DataSources", "Source", "find_data", "find_sources", "read_documents", "read_rows"]
