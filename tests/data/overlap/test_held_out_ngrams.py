"""Compared with a set of all n-grams of the training text, made with str.split."""

import random
import unicodedata
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from textgen.data.document import Document
from textgen.data.overlap import held_out_ngrams
from textgen.data.overlap.held_out_ngrams import NgramIndex
from textgen.data.overlap.pieces import batches

VOCABULARY = ["a", "b", "Cé", "d-e", "—", "'f'", "g.", "h1", "ß", "x", "日"]
WEIGHTS = [9, 6, 4, 2, 1, 1, 1, 1, 1, 1, 1]


def words_of(text: str) -> list[str]:
    spaced = text.replace("日", " 日 ")
    words = ("".join(c.lower() for c in word if unicodedata.category(c)[0] in "LMN") for word in spaced.split())
    return [word for word in words if word]


def random_documents(generator: random.Random, name: str, most: int) -> list[Document]:
    def text() -> str:
        words = generator.choices(VOCABULARY, WEIGHTS, k=generator.randint(0, 30))
        return "".join(word + generator.choice([" ", "  ", "\n"]) for word in words)

    return [Document(f"{name}#{i}", name, text()) for i in range(generator.randint(1, most))]


def expected(held_out: list[Document], training: list[Document], n: int) -> list[list[bool]]:
    """For each document, whether each n-gram occurs in the training documents; all words, if it is shorter."""
    known = {tuple(words[i : i + n]) for d in training for words in [words_of(d.text)] for i in range(len(words))}
    whole = {tuple(words_of(document.text)) for document in training}
    found = []
    for document in held_out:
        words = tuple(words_of(document.text))
        if 0 < len(words) < n:
            found.append([True] if words in whole else [])
        else:
            found.append([words[i : i + n] in known for i in range(len(words) - n + 1)])
    return found


@pytest.mark.parametrize("n", [2, 3, 4])
@pytest.mark.parametrize("characters", [5, 40, 1 << 18])
def test_finds_exactly_the_ngrams_that_occur(n: int, characters: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_out_ngrams, "batches", lambda documents, n: batches(documents, n, characters))
    generator = random.Random(characters + n)
    hits = 0
    for _ in range(40):
        held_out, training = random_documents(generator, "h", 6), random_documents(generator, "t", 6)
        index = NgramIndex(held_out, n)
        index.search(training)
        found = [[place is not None for place in index.ngrams_of(i)] for i in range(len(held_out))]
        assert found == expected(held_out, training, n)
        assert index.contaminated() == [i for i, row in enumerate(found) if any(row)]
        assert index.training_documents == len(training)
        hits += sum(map(sum, found))
    assert hits > 50


def test_words_decide_where_hashes_collide(monkeypatch: pytest.MonkeyPatch) -> None:
    def colliding(words: Any, n: int) -> np.ndarray:
        return np.full(max(0, len(words) - n + 1), 7, np.uint64)

    monkeypatch.setattr(held_out_ngrams, "ngram_hashes", colliding)
    held_out = [Document("h#0", "h", "one two three"), Document("h#1", "h", "four five six")]
    index = NgramIndex(held_out, 2)
    index.search([Document("t#0", "t", "six five four"), Document("t#1", "t", "zero two three five six")])
    assert [[place is not None for place in index.ngrams_of(i)] for i in (0, 1)] == [[False, True], [False, True]]


def test_places_are_consecutive_in_long_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_out_ngrams, "batches", lambda documents, n: batches(documents, n, 50))
    text = " ".join(f"word{i}" for i in range(100))
    index = NgramIndex([Document("h", "h", text)], 3)
    index.search([Document("t#0", "t", "something else entirely"), Document("t#1", "t", text)])
    places = index.ngrams_of(0)
    assert [place and place.training_id for place in places] == ["t#1"] * 98
    assert {b.position - a.position for a, b in pairwise(places) if a and b} == {1}


def test_a_short_document_is_found_only_as_a_whole() -> None:
    index = NgramIndex([Document("h#0", "h", "Thank you!"), Document("h#1", "h", "never mind")], 13)
    index.search([Document("t#0", "t", "thank YOU"), Document("t#1", "t", "Well, never mind that.")])
    assert index.contaminated() == [0]
