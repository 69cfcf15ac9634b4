"""Text → token ids and back, without the special tokens, truncation and clean-up that tokenizers add by default."""

import hashlib
import json
from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from textgen.errors import UserError


def encode_batch(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    """Token ids of each text, with no special tokens and no truncation."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        return [encoding.ids for encoding in backend.encode_batch_fast(texts, add_special_tokens=False)]
    return [list(tokenizer.encode(text, add_special_tokens=False)) for text in texts]


def encode_start(tokenizer: PreTrainedTokenizerBase, text: str, count: int) -> list[int]:
    """The first ``count`` token ids of the text (all, if it has fewer), without tokenizing all of a long text.

    Cutting a text can change the tokens near the cut. So a prefix of the text is long enough only if it has at least
    twice as many tokens as needed, and a prefix of twice its length starts with the same ids. No special tokens are
    added.
    """

    def encode(piece: str) -> list[int]:
        # verbose=False: no warning about texts longer than the model's context
        return tokenizer(piece, add_special_tokens=False, truncation=False, verbose=False)["input_ids"]

    characters = 1024 + 16 * count
    while 2 * characters < len(text):
        ids = encode(text[:characters])
        if len(ids) >= 2 * count and ids[:count] == encode(text[: 2 * characters])[:count]:
            return ids[:count]
        characters *= 2
    return encode(text)[:count]


def decode_text(tokenizer: PreTrainedTokenizerBase, token_ids: Sequence[int], *, skip_special_tokens: bool) -> str:
    """The exact text of token ids, without the clean-up that removes spaces before punctuation."""
    text = tokenizer.decode(
        list(token_ids), skip_special_tokens=skip_special_tokens, clean_up_tokenization_spaces=False
    )
    assert isinstance(text, str)
    return text


def separator_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Id of the token between documents: end-of-text, or begin-of-text if a tokenizer has only that.

    Raises:
        UserError: the tokenizer has neither.
    """
    for token in (tokenizer.eos_token_id, tokenizer.bos_token_id):
        if token is not None:
            return int(token)
    raise UserError(
        f"--model {tokenizer.name_or_path}: its tokenizer has no end-of-text token to separate documents with."
    )


def prefix_id(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Id of the token that texts are scored after: begin-of-text, else end-of-text; None if there is neither."""
    token = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    return None if token is None else int(token)


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """SHA-256 of everything that a text's token ids depend on."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    content = backend.to_str() if backend is not None else json.dumps(sorted(tokenizer.get_vocab().items()))
    return hashlib.sha256(f"{content}{tokenizer.eos_token}{tokenizer.bos_token}".encode()).hexdigest()
