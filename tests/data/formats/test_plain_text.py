"""Text files as documents."""

import pytest
from reading import texts


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("one\ntwo\n\nthree\n", ["one\ntwo", "three"]),
        ("one\ntwo\n \t \n\n\nthree", ["one\ntwo", "three"]),
        ("one\r\ntwo\r\n\r\nthree\r\n", ["one\ntwo", "three"]),
        ("one\rtwo\r\rthree", ["one\ntwo", "three"]),
        ("\ufeffone\n\ntwo", ["one", "two"]),
        ("one\n\ufefftwo", ["one\ntwo"]),
        ("\n\n  indented\n    more\n\n", ["  indented\n    more"]),
        ("a page\fbreak and a line\u2028separator\n\nb", ["a page\fbreak and a line\u2028separator", "b"]),
        ("naïve 🙂\n\n日本", ["naïve 🙂", "日本"]),
    ],
)
def test_blank_lines_separate_the_documents_of_a_text_file(write, content, expected):
    path = write("plays.txt", content)
    assert texts(path) == {f"plays.txt#{i}": text for i, text in enumerate(expected)}


@pytest.mark.parametrize("content", ["one\ntwo\n \nthree\n", "\ufeffone\r\ntwo\r\n \r\nthree\r\n"])
def test_a_text_file_can_be_one_document(write, content):
    assert texts(write("plays.txt", content), one_document=True) == {"plays.txt#0": "one\ntwo\n \nthree\n"}


def test_paragraphs_may_be_longer_than_what_is_read_at_once(write):
    long = "\n".join(f"line {i} " + "x" * 1000 for i in range(2 * 1024))
    found = texts(write("long.txt", f"{long}\n\nshort"))
    assert found == {"long.txt#0": long, "long.txt#1": "short"}
