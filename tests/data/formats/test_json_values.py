"""JSON is parsed value by value, whatever the sizes of the pieces that are read."""

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from textgen.data.formats import json_values as module
from textgen.data.formats.json_values import JSONDamage, json_values

VALUES = st.recursive(
    st.none() | st.booleans() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


def parse(text: str) -> list[Any]:
    return [value for _, value in json_values(io.StringIO(text))]


@pytest.fixture(autouse=True, params=[1, 2, 7, 1 << 20])
def _pieces(request, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK_CHARACTERS", request.param)


@given(values=st.lists(VALUES), indent=st.none() | st.integers(0, 2))
def test_elements_of_an_array_are_what_the_standard_library_parses(values, indent):
    assert parse(json.dumps(values, indent=indent)) == values


@given(values=st.lists(VALUES.filter(lambda value: not isinstance(value, list)), min_size=1))
def test_values_may_follow_one_another(values):
    assert parse("\n".join(map(json.dumps, values))) == values


def test_each_value_comes_with_its_line():
    assert [line for line, _ in json_values(io.StringIO('[\n"a", \n\n {"b":\n 1},"c"\n]'))] == [2, 4, 5]
    assert [line for line, _ in json_values(io.StringIO('{"a": 12}\n\n12 true\n"x"'))] == [1, 3, 3, 4]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[1,\n2", "line 2 is not valid JSON: it ends before the end of the array."),
        ("[1\n2]", "line 2 is not valid JSON: Expecting ',' or ']' after an element of the array."),
        ("[1,]", "line 1 is not valid JSON: Expecting value."),
        ("[1]\n2", "line 2 is not valid JSON: there is more after the end of the array."),
        ('["a",\n"b]', "line 2 is not valid JSON: Unterminated string starting at."),
        ('{"a": [1,\n tru }', "line 2 is not valid JSON: Expecting value."),
        ('["\\q"]', "line 1 is not valid JSON: Invalid \\escape."),
        ("[", "line 1 is not valid JSON: Expecting value."),
    ],
)
def test_damage_is_named_with_its_line(text, expected):
    with pytest.raises(JSONDamage) as caught:
        parse(text)
    assert str(caught.value) == expected


def test_damage_is_found_without_reading_the_rest():
    stream = io.StringIO('[{"a" 1}, ' + "1, " * (2 << 20))
    with pytest.raises(JSONDamage):
        list(json_values(stream))
    assert stream.tell() <= 1 << 20


def test_a_string_that_never_ends_does_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr(module, "LONGEST_TEXT", 1 << 21)
    stream = io.StringIO('["' + "x" * (16 << 20))
    with pytest.raises(JSONDamage, match="a value has over 2,097,152 characters, so a quote or bracket is left open"):
        list(json_values(stream))
    assert stream.tell() < 5 << 20
