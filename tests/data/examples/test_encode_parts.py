"""Texts in parts: the ids of the whole text, cut where the parts are."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from textgen.data.examples.encode_parts import Section, encode_sections
from textgen.data.tokenization import encode_batch

SCHEMES = ["first", "always", "legacy"]
TEXTS = st.lists(st.text("two +=4é\n", min_size=1, max_size=8), min_size=1, max_size=4)


def ids_of(tokenizer, *parts, after=False):
    (found,) = encode_sections(tokenizer, [Section(parts, after)])
    return found


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("parts", [("2+2=", "4"), ("two + two", " = four"), ("two\n", "\nfour"), ("two", "")])
def test_no_space_is_put_between_the_parts(llama_tokenizer, scheme, parts):
    tokenizer = llama_tokenizer(scheme)
    prompt, completion = ids_of(tokenizer, *parts)
    (alone, whole) = encode_batch(tokenizer, [parts[0], "".join(parts)])
    assert prompt + completion == whole
    assert prompt == alone
    assert tokenizer.convert_ids_to_tokens(ids_of(tokenizer, "2+2=", "4")[1]) == ["4"]


def test_a_space_was_put_there_when_parts_were_encoded_alone(llama_tokenizer):
    """What the other tests would not see if this tokenizer put no space before a text."""
    tokenizer = llama_tokenizer()
    assert tokenizer.convert_ids_to_tokens(encode_batch(tokenizer, ["4"])[0]) == ["▁4"]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_where_a_token_would_span_the_boundary_the_prompt_is_as_it_is_alone(llama_tokenizer, scheme):
    tokenizer = llama_tokenizer(scheme)
    prompt, completion = ids_of(tokenizer, "two + ", "two")
    alone, whole = encode_batch(tokenizer, ["two + ", "two + two"])
    assert prompt == alone != whole[: len(alone)]
    assert "".join(tokenizer.convert_ids_to_tokens(completion)) == "two", "without a space of its own"


def test_byte_level_tokens_do_not_span_it_either(tokenizer):
    alone, whole = encode_batch(tokenizer, ["the ", "the times"])
    prompt, completion = ids_of(tokenizer, "the ", "times")
    assert prompt == alone != whole[: len(alone)]
    assert tokenizer.decode(completion) == "times"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(TEXTS)
@pytest.mark.parametrize("scheme", [*SCHEMES, "bytes"])
def test_the_ids_are_those_of_the_text_and_each_beginning_is_as_it_is_alone(tokenizer, llama_tokenizer, scheme, parts):
    chosen = tokenizer if scheme == "bytes" else llama_tokenizer(scheme)
    found = ids_of(chosen, *parts)
    assert found[0] == encode_batch(chosen, [parts[0]])[0]
    flat = [token for part in found for token in part]
    written = "".join(parts)
    assert chosen.decode(flat) == chosen.decode(encode_batch(chosen, [written])[0])
    prefixes = encode_batch(chosen, ["".join(parts[: i + 1]) for i in range(len(parts))])
    if all(prefixes[-1][: len(prefix)] == prefix for prefix in prefixes):
        assert flat == prefixes[-1]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_after_a_special_token_a_text_begins_as_the_tokenizer_has_it(llama_tokenizer, scheme):
    tokenizer = llama_tokenizer(scheme)
    whole = tokenizer("</s>two + four", add_special_tokens=False, split_special_tokens=False)["input_ids"]
    found = ids_of(tokenizer, "two +", " four", after=True)
    assert [2, *found[0], *found[1]] == whole


def test_sections_keep_their_order(tokenizer):
    sections = [Section(("the ", "times")), Section(("it was",)), Section(()), Section(("a", "", "b"), True)]
    found = encode_sections(tokenizer, sections)
    assert [[tokenizer.decode(part) for part in parts] for parts in found] == [
        ["the ", "times"],
        ["it was"],
        [],
        ["a", "", "b"],
    ]
