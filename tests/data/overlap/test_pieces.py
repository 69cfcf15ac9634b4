import pytest

from textgen.data.document import Document
from textgen.data.overlap.pieces import batches
from textgen.data.overlap.words import split_words


def ngrams(text: str, n: int) -> list[bytes]:
    words = split_words([text])
    return [words.key(i, n) for i in range(len(words) - n + 1)]


@pytest.mark.parametrize("n", [2, 5])
@pytest.mark.parametrize("characters", [1, 20, 100, 10_000])
def test_every_ngram_is_in_one_piece(n: int, characters: int) -> None:
    texts = [
        "one two three four five six seven eight nine ten - - - - eleven twelve",
        "",
        "short",
        "日本語 " * 12,
        "x" * 90,
    ]
    documents = [Document(f"d#{i}", "d", text) for i, text in enumerate(texts)]
    pieces = [piece for batch in batches(documents, n, characters) for piece in batch]
    assert sorted({piece.number for piece in pieces}) == list(range(len(texts)))
    for number, text in enumerate(texts):
        own = [piece for piece in pieces if piece.number == number]
        assert all(piece.document is documents[number] for piece in own)
        assert [ngram for piece in own for ngram in ngrams(piece.text, n)] == ngrams(text, n)
    assert len(pieces) > len(texts) or characters >= 100


def test_pieces_and_batches_are_bounded() -> None:
    documents = [Document("long", "d", "word " * 5000), *(Document(f"{i}", "d", "a few words") for i in range(500))]
    found = list(batches(documents, 13, 1000))
    assert max(sum(len(piece.text) for piece in batch) for batch in found) <= 1100
    assert max(map(len, found)) > 50
    assert len(found) < 50


def test_text_without_white_space_is_one_piece() -> None:
    assert [len(batch) for batch in batches([Document("d", "d", "x" * 5000)], 13, 1000)] == [1]


def test_no_documents() -> None:
    assert list(batches([], 13)) == []
