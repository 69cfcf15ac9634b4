"""Encoding and decoding are exact."""

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers.processors import TemplateProcessing
from transformers import ByT5Tokenizer

from textgen.data.tokenization import (
    DocumentMarks,
    added_before,
    decode_text,
    document_marks,
    encode,
    encode_batch,
    encode_start,
    keep_special_tokens,
    prefix_id,
    tokenizer_fingerprint,
)

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


def with_bos(tokenizer_with: Any, **special: str) -> Any:
    """A tokenizer that puts its begin-of-text token before every text, as Llama's does."""
    tokenizer = tokenizer_with(**({"eos_token": "<|endoftext|>", "bos_token": "<mark>"} | special))
    template = [("<mark>", tokenizer.convert_tokens_to_ids("<mark>"))]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<mark> $A", special_tokens=template)
    return tokenizer


def test_the_prefix_is_what_the_tokenizer_itself_puts_before_a_text(tokenizer, tokenizer_with):
    assert added_before(tokenizer) == []
    marked = with_bos(tokenizer_with)
    assert added_before(marked) == [marked.bos_token_id] == [prefix_id(marked)]
    other = with_bos(tokenizer_with, bos_token="the", additional_special_tokens=["<mark>"])
    assert prefix_id(other) == other.convert_tokens_to_ids("<mark>") != other.bos_token_id


def test_documents_are_between_begin_and_end_of_text_or_share_one_mark(tokenizer, tokenizer_with):
    shared, marked = document_marks(tokenizer), with_bos(tokenizer_with)
    assert (shared, shared.opening, shared.frame([5, 6])) == (DocumentMarks(0, 0), [0], [5, 6, 0])
    bos = marked.bos_token_id
    separate = document_marks(marked)
    assert (separate, separate.opening, separate.frame([5, 6])) == (DocumentMarks(bos, 0), [], [bos, 5, 6, 0])


def test_the_name_of_a_special_token_in_a_text_is_text_unless_asked_for(tokenizer_with):
    text = "Use <|endoftext|> to end."
    tokenizer = tokenizer_with(eos_token="<|endoftext|>")
    ids = [
        encode_batch(tokenizer, [text])[0],
        encode(tokenizer, [text])["input_ids"][0],
        encode_start(tokenizer, text, 99),
    ]
    assert ids[0] == ids[1] == ids[2]
    assert 0 not in ids[0]
    assert decode_text(tokenizer, ids[0], skip_special_tokens=True) == text

    before = tokenizer_fingerprint(tokenizer)
    keep_special_tokens(tokenizer)
    for kept in (encode_batch(tokenizer, [text])[0], encode_start(tokenizer, text, 99)):
        assert kept.count(0) == 1
        assert decode_text(tokenizer, kept, skip_special_tokens=True) == "Use  to end."
    assert tokenizer_fingerprint(tokenizer) != before


def test_a_tokenizer_is_saved_as_it_was_loaded(tokenizer_with, tmp_path):
    tokenizer = tokenizer_with(eos_token="<|endoftext|>")
    tokenizer.save_pretrained(tmp_path / "before")
    encode_batch(tokenizer, ["a"])
    keep_special_tokens(tokenizer)
    encode_batch(tokenizer, ["a"])
    tokenizer.save_pretrained(tmp_path / "after")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "before" / name).read_bytes() == (tmp_path / "after" / name).read_bytes()


def test_tokenizers_have_the_same_fingerprint_only_if_they_encode_equally(tokenizer, tokenizer_with):
    same, other = tokenizer_with(eos_token="<|endoftext|>"), tokenizer_with(bos_token="<|endoftext|>")
    assert tokenizer_fingerprint(tokenizer) == tokenizer_fingerprint(same)
    assert len({tokenizer_fingerprint(t) for t in (tokenizer, other, ByT5Tokenizer())}) == 3
