"""The split: by content alone, and never without held-out documents if there are two or more."""

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from textgen.data.document import Document
from textgen.data.split import is_held_out, resolve_fraction, split_hash

fractions = st.floats(0, 1)


def document(text: str) -> Document:
    return Document("plays.txt#0", "plays.txt", text)


@given(st.text(), fractions, fractions)
def test_a_larger_validation_split_contains_the_smaller_one(text, one, other):
    smaller, larger = sorted((one, other))
    assert is_held_out(document(text), larger) or not is_held_out(document(text), smaller)
    assert is_held_out(document(text), 1)
    assert not is_held_out(document(text), 0)


@given(st.text(), fractions, st.sampled_from([" ", "\n", "\t \r\n"]))
def test_a_copy_is_on_the_same_side_from_any_source_and_however_it_is_wrapped(text, fraction, space):
    copy = Document("elsewhere.csv#7", "elsewhere.csv", space + space.join(text.split()) + space)
    assert is_held_out(copy, fraction) == is_held_out(document(text), fraction)


def test_about_the_requested_fraction_is_held_out():
    documents = [document(f"Text number {i}.") for i in range(4000)]
    for fraction in (0.02, 0.1, 0.5):
        held_out = sum(is_held_out(d, fraction) for d in documents) / len(documents)
        assert abs(held_out - fraction) < 4 * (fraction * (1 - fraction) / len(documents)) ** 0.5


@given(st.lists(st.text(), max_size=12), st.floats(0, 1, exclude_max=True))
def test_the_resolved_fraction_holds_out_at_least_one_of_several(texts, fraction):
    documents = [document(text) for text in texts]
    resolved = resolve_fraction(lambda: documents, fraction)
    held_out = [d for d in documents if is_held_out(d, resolved)]
    requested = [d for d in documents if is_held_out(d, fraction)]
    if requested:
        assert resolved == fraction
    elif len(documents) >= 2:
        lowest = min(map(split_hash, documents))
        assert held_out == [d for d in documents if split_hash(d) == lowest]
    else:
        assert held_out == []


def test_reading_stops_at_the_first_held_out_document():
    read = []

    def documents() -> Iterator[Document]:
        for number in range(1000):
            read.append(number)
            yield document(f"Text number {number}.")

    assert resolve_fraction(documents, 0.1) == 0.1
    assert read == [0, 1, 2]
