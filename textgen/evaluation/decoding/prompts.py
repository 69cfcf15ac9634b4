"""Prompts: beginnings of documents, with the tokens that follow in the document as the reference."""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from textgen.data.document import Document
from textgen.data.tokenization import added_before, decode_text, encode_start
from textgen.errors import UserError


@dataclass(frozen=True)
class Prompt:
    """The beginning of a document.

    Attributes:
        id: id of the document.
        token_ids: tokens of the prompt, after those that the tokenizer puts before any text, such as Llama's ``<s>``.
        text: text of the prompt.
        reference_ids: tokens that follow the prompt in the document: the human continuation.
    """

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
    """Up to ``prompts`` prompts of ``prompt_tokens`` tokens, from the first documents that are long enough.

    Long enough means that more than half of ``prompt_tokens`` tokens follow the prompt. If there are too few such
    documents, shorter ones fill the list; their prompt is the first half of their tokens. References have up to
    ``max_new_tokens`` tokens.

    Raises:
        UserError: no document has two tokens.
    """
    before = tuple(added_before(tokenizer))
    min_tokens = prompt_tokens + prompt_tokens // 2 + 1
    selected: list[Prompt] = []
    short: list[Prompt] = []
    for document in documents:
        if len(selected) == prompts:
            break
        ids = encode_start(tokenizer, document.text, max(min_tokens, prompt_tokens + max_new_tokens))
        if len(ids) >= min_tokens:
            selected.append(_prompt(document, before, ids, prompt_tokens, max_new_tokens, tokenizer))
        elif len(ids) >= 2 and len(short) < prompts:  # fewer tokens than requested, so these are all of the document
            short.append(_prompt(document, before, ids, len(ids) // 2, max_new_tokens, tokenizer))
    if not selected and not short:
        raise UserError(
            f"Decoding comparison: none of the {len(documents)} validation documents has at least two tokens, so there "
            "are no prompts. Specify longer documents with --validation-data, or use --skip-decoding."
        )
    return (selected + short)[:prompts]


def _prompt(
    document: Document,
    before: tuple[int, ...],
    ids: Sequence[int],
    length: int,
    max_new_tokens: int,
    tokenizer: PreTrainedTokenizerBase,
) -> Prompt:
    beginning = ids[:length]
    text = decode_text(tokenizer, beginning, skip_special_tokens=False)
    return Prompt(
        document.id, (*added_before(tokenizer), *beginning), text, tuple(ids[length : length + max_new_tokens])
    )
