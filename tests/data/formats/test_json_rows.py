"""Objects of JSON as documents: lines and arrays."""

import json

import pytest
from reading import error_message, texts

from textgen.data.config import DataConfig
from textgen.data.sources import find_sources, read_documents

ROWS = [{"text": "one\n\ntwo", "n": 1}, {"text": "   "}, {"text": None}, {"n": "no text"}, {"text": "naïve é"}]
EXPECTED = ["one\n\ntwo", "naïve é"]


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json"])
def test_a_line_is_a_document(write, ending, name):
    lines = [json.dumps(row) for row in ROWS]
    path = write(name, "\ufeff" + ending.join(["", *lines[:2], "", *lines[2:]]))
    assert list(texts(path).values()) == EXPECTED
    assert list(texts(path)) == [f"{name}#0", f"{name}#4"], "blank lines have no number"


@pytest.mark.parametrize("indent", [None, 4])
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json"])
def test_an_element_of_an_array_is_a_document(write, indent, name):
    path = write(name, " \n" + json.dumps(ROWS, indent=indent) + "\n")
    assert texts(path) == {f"{name}#0": EXPECTED[0], f"{name}#4": EXPECTED[1]}


def test_an_array_may_be_of_texts_and_a_file_of_one_object(write):
    assert list(texts(write("a.json", '["one", " ", "two"]')).values()) == ["one", "two"]
    assert list(texts(write("b.json", '{\n  "title": "x",\n  "text": "one"\n}')).values()) == ["one"]


def test_other_columns_do_not_matter(write):
    digits = "9" * 5000  # more than Python converts to a number
    others = [1, 1.5, "a", None, [1, "b"], {"c": {"d": []}}, {"c": 1}]
    rows = [f'{{"other": {json.dumps(other)}, "text": "text {i}"}}' for i, other in enumerate(others)]
    rows.append(f'{{"other": {digits}, "text": "last", "text2": NaN}}')
    assert len(texts(write("a.jsonl", "\n".join(rows)))) == len(rows)
    assert len(texts(write("a.json", f"[{','.join(rows)}]"))) == len(rows)


@pytest.mark.parametrize(("name", "form"), [("a.jsonl", "{}"), ("a.json", "[{}]")])
def test_half_a_character_becomes_the_replacement_character(write, name, form):
    """JSON's escapes can represent halves of characters outside the basic plane; a whole pair is the character."""
    row = r'{"text": "half \ud83d, other half \udE00 and whole \uD83D\uDE00 é"}'
    expected = "half \ufffd, other half \ufffd and whole 😀 é"
    assert list(texts(write(name, form.replace("{}", row))).values()) == [expected]
    assert list(texts(write(name, form.replace("{}", r'{"text": "\ud83d"}'))).values()) == ["\ufffd"]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.jsonl", '{"text": "é"}\n\n{"text": "b"\n', "line 3 (byte 16) is not valid JSON: Expecting ',' delimiter"),
        ("a.jsonl", '{"text": "a"}\n["b"]\n', "line 2 (byte 14) is not a JSON object."),
        ("a.jsonl", '{"text": "a"}\n"b"\n', "line 2 (byte 14) is not a JSON object."),
        ("a.jsonl", '{"text": ' + "[" * 200_000, "line 1 (byte 0) is nested too deeply."),
        ("a.json", "[" * 200_000, "line 1 is not valid JSON: it is nested too deeply."),
        ("a.json", '[{"text": "a"},\n\n {"text" "b"}]', "line 3 is not valid JSON: Expecting ':' delimiter."),
        ("a.json", '[\n{"text": "a"},\n5]', "line 3 is not a JSON object."),
    ],
    ids=range(7),
)
def test_a_damaged_file_is_named_with_the_line(write, name, content, expected):
    path = write(name, content)
    assert error_message(path).startswith(f"--data {path}: {expected}")


def test_damage_in_a_large_file_is_named_with_its_own_line(write):
    lines = [json.dumps({"text": f"document {i}, of a few words"}) for i in range(30_000)]
    lines[25_000] = '{"text": broken}'
    assert "line 25001 (byte " in error_message(write("a.jsonl", "\n".join(lines)))
    array = write("a.json", "[\n" + ",\n".join(lines) + "]")
    assert "line 25002 is not valid JSON: Expecting value." in error_message(array)


@pytest.mark.parametrize(("value", "kind"), [("5", "int"), ("1.5", "float"), ('["a"]', "list"), ("true", "bool")])
def test_a_value_that_is_not_text_is_an_error(write, value, kind):
    for name, place in (("a.jsonl", "line 2 (byte 14)"), ("a.json", "line 2")):
        path = write(name, f'{{"text": "a"}}\n{{"text": {value}}}')
        expected = f"--text-column text: {place} of {path}: the value is of type {kind}, not text."
        assert error_message(path) == expected


@pytest.mark.parametrize("content", ['{"body": "x"}\n{"title": "y"}', '[{"body": "x", "title": "y"}]'])
def test_a_missing_column_is_named_with_the_existing_ones(write, content):
    path = write("a.json", content)
    message = error_message(path, text_column="txt")
    assert message.startswith(f"--text-column txt: --data {path} has no such column. It has: body, title. Examples")


def test_a_large_file_without_the_column_is_not_read_to_its_end(write):
    rows = ['{"body": "x"}'] * 20_000
    assert "has no such column" in error_message(write("a.jsonl", "\n".join([*rows, "broken"])))
    assert len(texts(write("b.jsonl", "\n".join([*rows[:5000], '{"text": "here"}', *rows])))) == 1


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_numbers_in_examples_stay_as_they_are(write, name):
    row = '{"messages": [{"role": "assistant", "content": "a", "tool_calls": [{"a": 1012, "b": 2.5}]}]}'
    config = DataConfig(data=str(write(name, row)))
    (document,) = read_documents(find_sources(config.data, config), config)
    assert document.messages[0]["tool_calls"] == [{"a": 1012, "b": 2.5}]
