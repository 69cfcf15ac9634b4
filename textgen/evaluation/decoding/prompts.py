"""Beginnings of documents for every strategy to continue, and what the document itself goes on with."""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from textgen.data.document import Document
from textgen.data.tokenization import decode_text, encode_start
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
        ids = encode_start(tokenizer, document.text, max(least, prompt_tokens + max_new_tokens))
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
    text = decode_text(tokenizer, beginning, skip_special_tokens=False)
    return Prompt(document.id, beginning, text, tuple(ids[length : length + max_new_tokens]))
