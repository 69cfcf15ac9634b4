"""Compared with the exact similarity of sets of 5-grams."""

import random

import numpy as np
import pytest

from textgen.data.document import Document
from textgen.data.overlap import near_duplicates
from textgen.data.overlap.near_duplicates import (
    EXAMPLES,
    ORDERS,
    NearDuplicate,
    NearDuplicates,
    NearDuplicateSearch,
    most_similar_earlier,
    signatures,
)
from textgen.data.overlap.pieces import batches


def text(seed: int, words: int = 200) -> list[str]:
    generator = random.Random(seed)
    return [f"w{generator.randrange(5000)}" for _ in range(words)]


def changed(words: list[str], changes: int) -> list[str]:
    """The same words, except for this many in the middle: each change is in up to five 5-grams."""
    return [*words[:50], *text(99, changes), *words[50 + changes :]]


def documents(*texts: list[str]) -> list[Document]:
    return [Document(f"t#{n}", "t", " ".join(words)) for n, words in enumerate(texts)]


def search(found: list[Document]) -> NearDuplicates:
    looking = NearDuplicateSearch()
    assert list(looking.watch(found)) == found
    return looking.result()


def similarity(one: list[str], other: list[str]) -> float:
    first, second = ({tuple(words[i : i + 5]) for i in range(len(words) - 4)} for words in (one, other))
    return len(first & second) / len(first | second)


@pytest.mark.parametrize("changes", [0, 5, 20, 60, 140])
def test_agreement_estimates_the_similarity(changes: int) -> None:
    exact, estimated = [], []
    for seed in range(20):
        one = text(seed)
        other = changed(one, changes)
        first, second = signatures(documents(one, other))
        exact.append(similarity(one, other))
        estimated.append((first == second).mean())
    error = np.sqrt(np.mean(exact) * (1 - np.mean(exact)) / (20 * ORDERS))
    assert abs(np.mean(estimated) - np.mean(exact)) <= 4 * error


def test_near_duplicates_of_earlier_documents_are_counted() -> None:
    one, two = text(1), text(2)
    found = search(documents(one, two, changed(one, 5), ["only", "three", "words"], text(3), one, changed(two, 90)))
    assert (found.compared, found.found) == (6, 2)
    first, second = found.examples
    assert first == NearDuplicate("t#5", "t#0", 1.0)
    assert (second.id, second.earlier_id) == ("t#2", "t#0")
    assert second.similarity == pytest.approx(similarity(one, changed(one, 5)), abs=0.15)


def test_punctuation_and_case_do_not_matter() -> None:
    words = text(1)
    found = search([*documents(words), Document("other", "t", ", ".join(words).upper() + "!")])
    assert found.examples == (NearDuplicate("other", "t#0", 1.0),)


def test_pieces_of_a_document_are_taken_together(monkeypatch: pytest.MonkeyPatch) -> None:
    found = documents(text(1, 500), text(2), text(3, 800))
    expected = signatures(found)
    monkeypatch.setattr(near_duplicates, "batches", lambda documents, n: batches(documents, n, 300))
    assert (signatures(found) == expected).all()


def test_few_examples_are_kept_and_many_chunks_are_one_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_duplicates, "BATCH_CHARACTERS", 3000)
    texts = [text(seed) for seed in range(30)]
    found = search(documents(*texts, *texts))
    assert (found.compared, found.found, len(found.examples)) == (60, 30, EXAMPLES)
    assert found.examples[3] == NearDuplicate("t#33", "t#3", 1.0)


def test_the_number_of_documents_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_duplicates, "MOST_DOCUMENTS", 3)
    one = text(1)
    found = search(documents(text(2), one, one, one, one))
    assert (found.compared, found.found) == (3, 1)


def test_no_documents() -> None:
    assert search([]) == NearDuplicates(0, 0, ())
    assert search(documents(["short"])) == NearDuplicates(0, 0, ())
    assert NearDuplicateSearch().result() == NearDuplicates(0, 0, ())


def test_the_earliest_of_equal_signatures_is_named() -> None:
    same = np.arange(ORDERS, dtype=np.uint16)
    earlier, agreement = most_similar_earlier(np.stack([same + 7, same, same, same]))
    assert earlier.tolist() == [-1, -1, 1, 1]
    assert agreement.tolist() == [0, 0, 1, 1]
