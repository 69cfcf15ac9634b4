"""Which held-out documents are scored: whole ones, in hash order, the same for every model, read once."""

from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from textgen.data.config import DataConfig
from textgen.data.corpus import load_held_out
from textgen.data.document import Document
from textgen.data.split import split_hash
from textgen.data.tokens import held_out
from textgen.evaluation.draw_documents import BYTES_PER_TOKEN, DrawnDocuments, draw_documents, lowest_hashes

DOCUMENTS = [Document(f"d#{n}", "d", f"Document {n}: " + "é" * (n % 7)) for n in range(60)]


def by_definition(documents: Sequence[Document], tokens: int) -> list[int]:
    """The longest beginning of the hash order within the amount of text, at least one document."""
    order = sorted(range(len(documents)), key=lambda index: (split_hash(documents[index]), index))
    sizes = [len(documents[index].text.encode()) for index in order]
    number = next((n for n in range(len(order)) if sum(sizes[: n + 1]) > tokens * BYTES_PER_TOKEN), len(order))
    return sorted(order[: max(1, number)])


@given(st.lists(st.text("ab é", min_size=1, max_size=20), min_size=1, max_size=30), st.integers(1, 80))
def test_the_first_documents_in_hash_order_that_fit_are_drawn(texts: list[str], tokens: int) -> None:
    documents = [
        Document(str(n), "d", text) for n, text in enumerate(texts)
    ]  # also equal texts, whose hashes are equal
    indices, size = lowest_hashes(documents, tokens)
    assert size == sum(len(text.encode()) for text in texts)
    expected = by_definition(documents, tokens)
    assert (list(range(len(texts))) if indices is None else indices) == expected


def test_a_smaller_sample_is_part_of_a_larger_one() -> None:
    samples = [draw_documents(DOCUMENTS, tokens).documents for tokens in (1, 20, 100, 150)]
    assert 1 == len(samples[0]) < len(samples[1]) < len(samples[2]) < len(samples[3]) < len(DOCUMENTS)
    ids = [{document.id for document in sample} for sample in samples]
    assert ids[0] < ids[1] < ids[2] < ids[3]
    drawn = draw_documents(DOCUMENTS, 100, 20)
    assert (drawn.documents, drawn.training_documents) == (samples[2], samples[1])
    assert [split_hash(document) for document in samples[0]] == [min(map(split_hash, DOCUMENTS))]


def test_the_order_of_the_data_does_not_matter_and_is_kept() -> None:
    forward, backward = draw_documents(DOCUMENTS, 100).documents, draw_documents(DOCUMENTS[::-1], 100).documents
    assert list(forward) == list(backward)[::-1]
    assert list(forward) == [document for document in DOCUMENTS if document in forward]


def test_enough_for_all_documents_is_all_of_them_uncopied() -> None:
    size = sum(document.bytes for document in DOCUMENTS)
    for tokens in ("all", size // BYTES_PER_TOKEN + 1):
        drawn = draw_documents(DOCUMENTS, tokens, tokens)
        assert drawn.documents is drawn.training_documents is DOCUMENTS
        assert drawn.available() == {"documents_available": 60, "bytes_available": size}
    assert len(draw_documents(DOCUMENTS, size // BYTES_PER_TOKEN - 1).documents) < 60


class Lazy(Sequence[Document]):
    """Documents that are read when needed, and counted."""

    def __init__(self) -> None:
        self.read: list[int] = []

    def __len__(self) -> int:
        return len(DOCUMENTS)

    def __getitem__(self, index: int) -> Document:  # type: ignore[override]
        self.read.append(index)
        return DOCUMENTS[index]

    def __iter__(self) -> Iterator[Document]:
        return (self[index] for index in range(len(self)))


def test_every_document_is_read_once_and_only_the_drawn_ones_again() -> None:
    lazy = Lazy()
    drawn = draw_documents(lazy, 20, 5)
    assert lazy.read[:60] == list(range(60))
    assert [DOCUMENTS[index] for index in lazy.read[60:]] == drawn.documents


@pytest.mark.parametrize(
    ("numbers", "name", "shares"),
    [
        ((3, 3, 3), "3 documents", ""),
        ((2000, 2000, 3000), "2,000 of 3,000 held-out documents",
         "; scored: 2,000 before and after training, 2,000 during training"),
        ((3, 1, 3), "3 documents", "; scored: 1 during training"),
    ],
)  # fmt: skip
def test_it_says_what_is_scored(numbers: tuple[int, int, int], name: str, shares: str) -> None:
    some, few, every = numbers
    drawn = DrawnDocuments([DOCUMENTS[0]] * some, [DOCUMENTS[0]] * few, every, 99)
    assert (str(drawn), drawn.shares()) == (name, shares)
    assert drawn.tokens == some * DOCUMENTS[0].bytes // BYTES_PER_TOKEN
    assert drawn.facts() == {
        "validation_documents": every, "evaluation_documents": some, "training_evaluation_documents": few,
    }  # fmt: skip


@pytest.mark.parametrize("parts", [1, 2])
def test_documents_in_the_cache_are_drawn_without_reading_the_others(tmp_path, monkeypatch, parts: int) -> None:
    for part in range(parts):
        texts = [f"Document {n} of part {part}: " + "é" * (n % 7) for n in range(120)]
        (tmp_path / f"{part}.txt").write_text("\n\n".join(texts), encoding="utf-8")
    data = ",".join(f"{tmp_path / f'{part}.txt'}:1" for part in range(parts)) if parts > 1 else str(tmp_path / "0.txt")
    documents = load_held_out(DataConfig(data=data, validation_fraction=0.5))
    expected = draw_documents(list(documents), 100, 20)
    read: list[int] = []
    parse = held_out.parse
    monkeypatch.setattr(held_out, "parse", lambda text: read.append(1) or parse(text))
    drawn = draw_documents(documents, 100, 20)
    assert (list(drawn.documents), drawn.available()) == (list(expected.documents), expected.available())
    assert len(read) == len(drawn.documents) < len(documents) / 2
