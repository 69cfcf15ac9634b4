"""Ids by another package are those of the tokenizer itself, or are not used."""

import random
from typing import Any

import pytest

from textgen.data.tokenization import encode_batch, keep_special_tokens
from textgen.data.tokens import bulk_encoding
from textgen.data.tokens.bulk_encoding import BulkEncoder
from textgen.errors import UserError

pytest.importorskip("fastokens", reason="no wheel for this machine")


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_encoding, "_WORTHWHILE", 1)


def texts(count: int) -> list[str]:
    """Texts of characters from everywhere, and with the name of a special token."""
    generator = random.Random(0)
    ranges = [(32, 127), (9, 14), (128, 0x3000), (0x3000, 0xD7FF), (0xE000, 0x1FFFF)]
    drawn = ["".join(chr(generator.randrange(*generator.choice(ranges))) for _ in range(50)) for _ in range(count)]
    return ["", "It was  the\n\n best of times<|endoftext|>, don't you think? 1234", *drawn]


def test_the_ids_are_those_of_the_tokenizer(tokenizer, monkeypatch):
    encoder = BulkEncoder(tokenizer)
    assert encoder(["one"]) == encode_batch(tokenizer, ["one"])
    expected = encode_batch(tokenizer, texts(300))
    monkeypatch.setattr(bulk_encoding, "encode_batch", lambda tokenizer, few: encode_batch(tokenizer, few[:2]))
    assert encoder(texts(300)) == expected, "two of them could be the tokenizer's own"
    assert encoder([]) == []


@pytest.mark.parametrize("split", [False, True])
def test_names_of_special_tokens_are_encoded_as_the_tokenizer_does(tokenizer_with, split):
    tokenizer = tokenizer_with(eos_token="<|endoftext|>")
    if not split:
        keep_special_tokens(tokenizer)
    encoder = BulkEncoder(tokenizer)
    encoder(["one"])
    (ids,) = encoder(["one<|endoftext|>"])
    assert (ids[-1] == tokenizer.eos_token_id) != split


def test_it_is_not_used_if_it_differs_at_once(tokenizer, monkeypatch):
    monkeypatch.setattr(bulk_encoding._Fast, "__call__", lambda self, texts: [[1] for _ in texts])
    encoder = BulkEncoder(tokenizer)
    for _ in range(2):
        assert encoder(["one", "two"]) == encode_batch(tokenizer, ["one", "two"])


def test_a_difference_later_is_a_user_error(tokenizer, monkeypatch):
    encoder = BulkEncoder(tokenizer)
    encoder(["one"])
    monkeypatch.setattr(bulk_encoding._Fast, "__call__", lambda self, texts: [[1] for _ in texts])
    with pytest.raises(UserError, match="pip uninstall fastokens"):
        encoder(["two"])


def test_other_kinds_of_tokenizers_encode_themselves(other_kinds):
    for tokenizer in other_kinds:
        encoder = BulkEncoder(tokenizer)
        for _ in range(2):
            assert encoder(["one two"]) == encode_batch(tokenizer, ["one two"])


@pytest.fixture
def other_kinds() -> list[Any]:
    from tokenizers import Tokenizer, models
    from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"[UNK]": 0, "one two": 1}, unk_token="[UNK]"))
    pieces = Tokenizer(models.Unigram([("<unk>", 0.0), ("one", -1.0), (" two", -2.0)], unk_id=0))
    return [ByT5Tokenizer(), *(PreTrainedTokenizerFast(tokenizer_object=kind) for kind in (words, pieces))]
