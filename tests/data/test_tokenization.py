"""Encoding and decoding are exact."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import ByT5Tokenizer

from textgen.data.tokenization import decode_text, encode_batch, encode_start, prefix_id, tokenizer_fingerprint

PIECES = [" ", "\n\n", "  ", "wisdom", "times", "un", "ée", "日本語", "…", "the", "==", "\t", "'s"]
TEXT = "It was the best of times, it was the worst of times."


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(PIECES)), st.integers(1, 5), st.integers(1, 2000))
def test_the_first_tokens_are_those_of_the_whole_text(tokenizer, pieces, count, repeats):
    text = "".join(pieces) * repeats
    assert encode_start(tokenizer, text, count) == tokenizer(text)["input_ids"][:count]


def test_a_token_longer_than_the_first_prefix_stays_whole(tokenizer_with):
    tokenizer = tokenizer_with(eos_token="<|endoftext|>")
    tokenizer.add_tokens(["well, " * 250])
    text = "well, " * 250 * 9
    assert encode_start(tokenizer, text, 1) == tokenizer(text)["input_ids"][:1] == [len(tokenizer) - 1]


def test_no_special_tokens_are_added(tokenizer, tokenizer_with):
    marked = tokenizer_with(eos_token="<|endoftext|>", bos_token="<mark>")
    marked.add_bos_token = True
    expected = tokenizer("the times")["input_ids"]
    assert encode_start(marked, "the times", 9) == encode_batch(marked, ["the times"])[0] == expected


def test_nothing_is_truncated_to_the_models_context(tokenizer_with):
    short = tokenizer_with(eos_token="<|endoftext|>", model_max_length=4)
    ids = encode_batch(short, [TEXT])[0]
    assert decode_text(short, ids, skip_special_tokens=False) == TEXT


def test_a_tokenizer_without_a_fast_backend_works():
    assert encode_batch(ByT5Tokenizer(), ["ab", ""]) == [[100, 101], []]


def test_spaces_before_punctuation_survive_decoding(tokenizer):
    text = "Well , he said : no ."
    tokenizer.clean_up_tokenization_spaces = True
    try:
        assert decode_text(tokenizer, encode_batch(tokenizer, [text])[0], skip_special_tokens=True) == text
    finally:
        tokenizer.clean_up_tokenization_spaces = False


def test_the_prefix_is_bos_or_else_eos_or_else_none(tokenizer_with):
    eos, bos = {"eos_token": "<|endoftext|>"}, {"bos_token": "the"}
    assert prefix_id(tokenizer_with(**eos)) == 0
    both = tokenizer_with(**eos, **bos)
    assert prefix_id(both) == both.bos_token_id != both.eos_token_id
    assert prefix_id(tokenizer_with()) is None


def test_tokenizers_have_the_same_fingerprint_only_if_they_encode_equally(tokenizer, tokenizer_with):
    same, other = tokenizer_with(eos_token="<|endoftext|>"), tokenizer_with(bos_token="<|endoftext|>")
    assert tokenizer_fingerprint(tokenizer) == tokenizer_fingerprint(same)
    assert len({tokenizer_fingerprint(t) for t in (tokenizer, other, ByT5Tokenizer())}) == 3
