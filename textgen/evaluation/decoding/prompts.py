"""Prompts: beginnings of documents, or prompts of examples, with the tokens that follow as the reference."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from transformers import PreTrainedTokenizerBase

from textgen.data.document import Document
from textgen.data.examples.encode import encode_documents
from textgen.data.tokenization import added_before, decode_text, encode_start, prefix_id
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
    context: int,
) -> list[Prompt]:
    """Up to ``prompts`` prompts with references of up to ``max_new_tokens`` tokens.

    The prompt of a text is its first ``prompt_tokens`` tokens, and texts are skipped unless more than half as many
    follow. If there are too few that are long enough, shorter ones fill the list; their prompt is the first half of
    their tokens. The prompt of an example of a task is the example's own, all of it, and its reference is the
    completion or the last answer; examples are skipped if prompt and continuation do not fit into the context.

    Raises:
        UserError: no document has two tokens, or no example fits into the context.
    """
    before = tuple(added_before(tokenizer))
    selected: list[Prompt] = []
    short: list[Prompt] = []
    for document in documents:
        if len(selected) == prompts:
            break
        if document.is_example:
            found = _example_prompt(document, before, max_new_tokens, tokenizer)
            if len(found.token_ids) + max_new_tokens <= context:
                selected.append(found)
            continue
        count = max(_least_tokens(prompt_tokens), prompt_tokens + max_new_tokens)
        ids = encode_start(tokenizer, document.text, count)
        if len(ids) >= _least_tokens(prompt_tokens):
            selected.append(_prompt(document, before, ids, prompt_tokens, max_new_tokens, tokenizer))
        elif len(ids) >= 2 and len(short) < prompts:  # fewer tokens than requested, so these are all of the document
            short.append(_prompt(document, before, ids, len(ids) // 2, max_new_tokens, tokenizer))
    if not selected and not short:
        raise UserError(_no_prompts(documents, max_new_tokens))
    return (selected + short)[:prompts]


def _least_tokens(prompt_tokens: int) -> int:
    """Length of a text that is long enough for a prompt."""
    return prompt_tokens + prompt_tokens // 2 + 1


def _no_prompts(documents: Sequence[Document], max_new_tokens: int) -> str:
    if any(document.is_example for document in documents):
        return (
            f"--max-new-tokens {max_new_tokens}: with as many tokens after it, none of the prompts of the "
            f"{len(documents)} validation examples fits into the model's context. Lower it, or use --skip-decoding."
        )
    return (
        f"Decoding comparison: none of the {len(documents)} validation documents has at least two tokens, so there "
        "are no prompts. Specify longer documents with --validation-data, or use --skip-decoding."
    )


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
    return Prompt(document.id, (*before, *beginning), text, tuple(ids[length : length + max_new_tokens]))


def _example_prompt(
    document: Document, before: tuple[int, ...], max_new_tokens: int, tokenizer: PreTrainedTokenizerBase
) -> Prompt:
    (encoded,) = encode_documents(tokenizer, [replace(document, completion_only=True)])
    if not before and not encoded.prompt_length and (prefix := prefix_id(tokenizer)) is not None:
        before = (prefix,)  # an empty prompt: what precedes the completion in training
    if before and tuple(encoded.ids[: len(before)]) == before:
        before = ()  # a chat template has written it already
    return _prompt(document, before, encoded.ids, encoded.prompt_length, max_new_tokens, tokenizer)
