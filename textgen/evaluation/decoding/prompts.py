"""Beginnings of documents for every strategy to continue, and what the document itself goes on with."""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from textgen.data.document import Document
from textgen.errors import UserError


@dataclass(frozen=True)
class Prompt:
    """The beginning of a document, and the tokens that follow it there: what a human went on with."""

    id: str
    token_ids: tuple[int, ...]
    text: str
    reference_ids: tuple[int, ...]


def select_prompts(
    documents: Sequence[Document],
    tokenizer: PreTrainedTokenizerBase,
    *,
    prompts: int,
    prompt_tokens: int,
    max_new_tokens: int,
) -> list[Prompt]:
    """Up to ``prompts`` beginnings of ``prompt_tokens`` tokens, of the first documents to go on for half as long again.

    If there are fewer such documents, shorter ones follow with the first half of theirs. References have up to
    ``max_new_tokens`` tokens. Raises UserError if no document has two tokens.
    """
    least = prompt_tokens + prompt_tokens // 2 + 1
    chosen: list[Prompt] = []
    short: list[Prompt] = []
    for document in documents:
        if len(chosen) == prompts:
            break
        ids = first_tokens(tokenizer, document.text, max(least, prompt_tokens + max_new_tokens))
        if len(ids) >= least:
            chosen.append(_prompt(document, ids, prompt_tokens, max_new_tokens, tokenizer))
        elif len(ids) >= 2 and len(short) < prompts:  # fewer tokens than asked for: these are all that it has
            short.append(_prompt(document, ids, len(ids) // 2, max_new_tokens, tokenizer))
    if not chosen and not short:
        raise UserError(
            f"Decoding comparison: none of the {len(documents)} validation documents has two tokens, so there is "
            "nothing to continue. Give longer ones (--validation-data), or leave this out with --skip-decoding."
        )
    return (chosen + short)[:prompts]


def _prompt(
    document: Document, ids: Sequence[int], length: int, max_new_tokens: int, tokenizer: PreTrainedTokenizerBase
) -> Prompt:
    beginning = tuple(ids[:length])
    text = text_of(tokenizer, beginning, skip_special_tokens=False)
    return Prompt(document.id, beginning, text, tuple(ids[length : length + max_new_tokens]))


def first_tokens(tokenizer: PreTrainedTokenizerBase, text: str, count: int) -> list[int]:
    """The first ``count`` token ids of the text (all, if it has fewer) without tokenising megabytes to get them.

    A cut can change the tokens near it, so a beginning of the text is believed only if it gave twice as many tokens as
    needed and one twice as long agrees; no special tokens are added.
    """

    def encode(piece: str) -> list[int]:
        # verbose=False: a text longer than the model's context is no reason for a warning here
        return tokenizer(piece, add_special_tokens=False, truncation=False, verbose=False)["input_ids"]

    characters = 1024 + 16 * count
    while 2 * characters < len(text):
        ids = encode(text[:characters])
        if len(ids) >= 2 * count and ids[:count] == encode(text[: 2 * characters])[:count]:
            return ids[:count]
        characters *= 2
    return encode(text)[:count]


def text_of(tokenizer: PreTrainedTokenizerBase, token_ids: Sequence[int], *, skip_special_tokens: bool) -> str:
    # The clean-up would take away the spaces before punctuation, which are part of what was written.
    text = tokenizer.decode(
        list(token_ids), skip_special_tokens=skip_special_tokens, clean_up_tokenization_spaces=False
    )
    assert isinstance(text, str)
    return text
