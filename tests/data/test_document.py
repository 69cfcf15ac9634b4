"""Counting the words and bytes of a document."""

from textgen.data.document import Document


def document(text: str) -> Document:
    return Document("plays.txt#0", "plays.txt", text)


def test_the_space_before_a_completion_is_no_word():
    assert Document("a", "a", "Is it? yes", prompt="Is it?", completion_only=True).words == 1
    assert Document("a", "a", "Is it? yes", prompt="Is it?").words == 3


def test_words_are_counted_as_the_evaluation_harness_does():
    assert [document(text).words for text in ("", "one", "one two\n\nthree", " one ")] == [1, 1, 3, 3]


def test_bytes_are_those_of_utf_8():
    assert [document(text).bytes for text in ("", "abc", "naïve", "…🙂")] == [0, 3, 6, 7]
