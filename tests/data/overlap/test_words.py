import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from textgen.data.overlap.words import locate_words, ngram_hashes, split_words


def words_of(text: str) -> list[str]:
    """Each word as it is written in the text."""
    words = locate_words(text)
    return [text[words.span(i, 1)] for i in range(len(words))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't stop — it's 3.14!", ["Don't", "stop", "it's", "3.14"]),
        ("  state-of-the-art,\n\tand\u00a0more  ", ["state-of-the-art", "and", "more"]),
        ("日本語のtext", ["日", "本", "語", "の", "text"]),
        ("text日本", ["text", "日", "本"]),
        ("« »  … 😀", []),
        ("", []),
        ("हिन्दी में", ["हिन्दी", "में"]),
    ],
)
def test_words_are_letters_between_white_space(text: str, expected: list[str]) -> None:
    assert words_of(text) == expected


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("The END.", "(the) “end”", True),
        ("don't stop", "dont, stop", True),
        ("ÉCOLE ΑΒΓ", "école αβγ", True),
        ("to day", "today", False),
        ("ab c", "a bc", False),
        ("a", "b", False),
        ("İ", "i", False),
        ("\ud800", "\ud800", True),
    ],
)
def test_keys_are_equal_if_the_words_are(one: str, other: str, equal: bool) -> None:
    one_words, other_words = split_words([one]), split_words([other])
    assert (one_words.key(0, len(one_words)) == other_words.key(0, len(other_words))) == equal


def test_texts_are_kept_apart() -> None:
    words = split_words(["one two", "", "three"])
    assert words.breaks().tolist() == [2, 3]
    assert len(words) == 5
    assert words.key(4, 1) == split_words(["three"]).key(0, 1)


@given(st.lists(st.sampled_from(["a", "B", "c,", "ab", "日"]), max_size=40), st.integers(1, 5))
def test_equal_ngrams_have_equal_hashes_wherever_they_are(pieces: list[str], n: int) -> None:
    words = split_words(["ab, a", " ".join(pieces)])
    hashes = ngram_hashes(words, n)
    assert len(hashes) == max(0, len(words) - n + 1)
    by_key: dict[bytes, set[int]] = {}
    for i, hashed in enumerate(hashes.tolist()):
        by_key.setdefault(words.key(i, n), set()).add(hashed)
    assert all(len(found) == 1 for found in by_key.values())
    assert len(set().union(*by_key.values())) == len(by_key)


def test_hashes_spread() -> None:
    """The first bits choose a slot of a table, so they must not be alike."""
    text = " ".join(f"word{i}" for i in range(20_000))
    slots = np.bincount((ngram_hashes(split_words([text]), 3) >> np.uint64(56)).astype(np.int64), minlength=256)
    assert slots.min() > 40
    assert slots.max() < 140
