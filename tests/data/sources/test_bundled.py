"""The bundled corpora, and that no paragraph leaks from one side of the split to the other."""

import importlib.metadata
import re
from email.message import Message
from itertools import combinations, islice
from types import SimpleNamespace

import pytest

from textgen.data.document import Document
from textgen.data.sources.bundled import BUNDLED, docstrings, find_bundled, permissive_packages, python_reference
from textgen.data.split import is_held_out


def paragraphs(text: str, least: int) -> set[str]:
    """Its paragraphs of at least ``least`` characters, with white space normalized."""
    normalized = (" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", text))
    return {paragraph for paragraph in normalized if len(paragraph) >= least}


@pytest.fixture(scope="module")
def reference() -> list[str]:
    return python_reference()


def test_the_reference_is_large_enough_to_train_on(reference):
    # In Python 3.11: 166 sections, 367,624 characters, 1,639 paragraphs.
    assert len(reference) >= 158
    assert sum(map(len, reference)) >= 350_000
    assert all(text.strip() for text in reference)
    assert any("if_stmt" in text for text in reference)


def test_no_paragraph_of_the_reference_is_in_two_documents(reference):
    seen: dict[str, int] = {}
    for number, text in enumerate(reference):
        for paragraph in paragraphs(text, 30):
            assert seen.setdefault(paragraph, number) == number, paragraph
    assert len(seen) >= 1560


def test_training_and_validation_split_of_the_reference_share_no_paragraph(reference):
    sides: dict[bool, set[str]] = {True: set(), False: set()}
    documents = [Document(f"python-reference#{i}", "python-reference", text) for i, text in enumerate(reference)]
    held_out = [document for document in documents if is_held_out(document, 0.1)]
    assert 0.05 < len(held_out) / len(documents) < 0.2
    for document in documents:
        sides[document in held_out] |= paragraphs(document.text, 30)
    assert not sides[True] & sides[False]


def test_the_reference_is_deterministic(reference):
    assert python_reference() == reference
    bundled = BUNDLED["python-reference"]
    assert bundled.fingerprint() == bundled.fingerprint()
    assert list(bundled.texts()) == reference


def test_docstrings_are_prose_without_duplicates(reference):
    texts = list(islice(docstrings(), 150))
    assert len(texts) == 150
    for one, other in combinations([paragraphs(text, 1) for text in texts], 2):
        assert not one & other
    lines = {line.strip() for text in reference for line in text.splitlines() if len(line.strip()) > 30}
    for text in texts:
        assert text.isascii()
        assert ">>>" not in text
        assert not lines & {line.strip() for line in text.splitlines()}


def distribution(name: str, **fields: str) -> SimpleNamespace:
    metadata = Message()
    metadata["Name"] = name
    for field, value in fields.items():
        metadata[field.replace("_", "-")] = value
    return SimpleNamespace(metadata=metadata, version="1.0")


def test_only_packages_with_permissive_licences_are_read(monkeypatch):
    found = [
        distribution("zope", License_Expression="MIT"),
        distribution("apache", Classifier="License :: OSI Approved :: Apache Software License"),
        distribution("old", License="BSD 3-Clause License\n\nCopyright. Only the first line counts, not GPL."),
        distribution("copyleft", License_Expression="GPL-3.0-only"),
        distribution("either", License_Expression="MIT AND LGPL-2.1-or-later"),
        distribution("mozilla", Classifier="License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)"),
        distribution("silent"),
        distribution("textgen", License_Expression="Apache-2.0"),
    ]
    monkeypatch.setattr(importlib.metadata, "distributions", lambda: found)
    assert permissive_packages() == {"apache": "1.0", "old": "1.0", "zope": "1.0"}
    assert list(permissive_packages()) == ["apache", "old", "zope"]


def test_the_fingerprint_of_the_docstrings_changes_with_the_packages_they_come_from(monkeypatch):
    fingerprint = BUNDLED["docstrings"].fingerprint
    monkeypatch.setattr(importlib.metadata, "distributions", lambda: [distribution("a", License_Expression="MIT")])
    alone = fingerprint()
    assert fingerprint() == alone
    monkeypatch.setattr(importlib.metadata, "distributions", lambda: [distribution("b", License_Expression="MIT")])
    assert fingerprint() != alone


def test_topics_are_titles_with_their_sections():
    rows = list(find_bundled("python-topics").texts())
    assert len(rows) > 100
    sections = python_reference()
    for row in rows:
        title = row["prompt"].removeprefix("Topic: ").removesuffix("\n\n")
        assert any(text.startswith(title) and row["completion"] in text for text in sections)
    assert rows[0]["prompt"] == 'Topic: The "assert" statement\n\n'
