"""The unit of the split and of every measurement."""

from hypothesis import given
from hypothesis import strategies as st

from textgen.data.document import Document

fractions = st.floats(0, 1)


def document(text: str) -> Document:
    return Document("plays.txt#0", "plays.txt", text)


def test_words_are_counted_as_the_evaluation_harness_does():
    assert [document(text).words for text in ("", "one", "one two\n\nthree", " one ")] == [1, 1, 3, 3]


def test_bytes_are_those_of_utf_8():
    assert [document(text).bytes for text in ("", "abc", "naïve", "…🙂")] == [0, 3, 6, 7]


@given(st.text(), fractions, fractions)
def test_a_larger_validation_split_holds_the_smaller_one(text, one, other):
    smaller, larger = sorted((one, other))
    assert document(text).in_validation(larger) or not document(text).in_validation(smaller)
    assert document(text).in_validation(1)
    assert not document(text).in_validation(0)


@given(st.text(), fractions, st.sampled_from([" ", "\n", "\t \r\n"]))
def test_a_copy_falls_on_the_same_side_wherever_it_comes_from_and_however_it_is_wrapped(text, fraction, space):
    copy = Document("elsewhere.csv#7", "elsewhere.csv", space + space.join(text.split()) + space)
    assert copy.in_validation(fraction) == document(text).in_validation(fraction)


def test_about_the_fraction_asked_for_is_held_out():
    documents = [document(f"Text number {i}.") for i in range(4000)]
    for fraction in (0.02, 0.1, 0.5):
        held_out = sum(d.in_validation(fraction) for d in documents) / len(documents)
        assert abs(held_out - fraction) < 4 * (fraction * (1 - fraction) / len(documents)) ** 0.5
