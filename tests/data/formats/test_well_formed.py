"""Text that has no UTF-8 gets some."""

from hypothesis import given
from hypothesis import strategies as st

from textgen.data.formats.well_formed import well_formed


def test_a_lone_half_of_a_character_becomes_the_replacement_character():
    assert well_formed("a\ud83d, \ude00b and \U0001f600") == "a\ufffd, \ufffdb and \U0001f600"


@given(st.text())
def test_other_text_stays(text):
    assert well_formed(text) == text
