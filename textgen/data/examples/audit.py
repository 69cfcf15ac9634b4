"""A look at what is trained on, before anything is: two examples with their targets set apart.

Training on the wrong tokens is silent: the loss falls, and the model never learns to stop, or learns to ask questions.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from textgen.data.document import Document
from textgen.data.examples.encode import EncodedDocument, encode_documents
from textgen.data.tokenization import decode_text
from textgen.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

OPEN, CLOSE = "[[", "]]"
SHOWN = 2
LONGEST = 400  # characters of a part that are shown


def audit_examples(tokenizer: PreTrainedTokenizerBase, documents: Sequence[Document]) -> list[str]:
    """Lines that show the first two of some examples, with the text whose tokens are targets between ``[[`` and ``]]``.

    Args:
        tokenizer: the model's tokenizer.
        documents: some examples, of every kind that there is.

    Raises:
        UserError: a chat has no target, or the end of the assistant's turn is no target in any chat, so that the model
            would not learn to stop.
    """
    encoded = encode_documents(tokenizer, documents)
    _check_chats(tokenizer, documents, encoded)
    lines = [f"what is trained on, between {OPEN} and {CLOSE}:"]
    for document, tokens in list(zip(documents, encoded, strict=True))[:SHOWN]:
        targets = len(tokens.ids) if tokens.scored is None else sum(tokens.scored)
        lines += [f"  {document.id} ({targets} of {len(tokens.ids)} tokens)", f"    {_marked(tokenizer, tokens)}"]
    return lines


def _marked(tokenizer: PreTrainedTokenizerBase, encoded: EncodedDocument) -> str:
    scored = encoded.scored or [True] * len(encoded.ids)
    shown = []
    for is_target, pairs in groupby(zip(encoded.ids, scored, strict=True), key=lambda pair: pair[1]):
        text = decode_text(tokenizer, [token for token, _ in pairs], skip_special_tokens=False)
        if len(text) > LONGEST:
            text = f"{text[: LONGEST // 2]} … {text[-LONGEST // 2 :]}"
        text = text.replace("\n", "\\n")
        shown.append(f"{OPEN}{text}{CLOSE}" if is_target else text)
    return "".join(shown)


def _check_chats(
    tokenizer: PreTrainedTokenizerBase, documents: Sequence[Document], encoded: Sequence[EncodedDocument]
) -> None:
    chats = [(d, e) for d, e in zip(documents, encoded, strict=True) if d.messages]
    for document, tokens in chats:
        if tokens.scored is not None and True not in tokens.scored:
            raise UserError(
                f"--loss-on completion: {document.id} has no target: the chat template writes nothing for the "
                "assistant's answer. Use --loss-on all, or another --chat-template."
            )
    if chats and not any(_ends(tokenizer, tokens) for _, tokens in chats):
        raise UserError(
            "--chat-template: the end of the assistant's turn is never a target: the template writes no special token "
            "after an answer, so the model would not learn to stop. Use another template."
        )


def _ends(tokenizer: PreTrainedTokenizerBase, encoded: EncodedDocument) -> bool:
    """Whether a special token is among the targets."""
    special = {*tokenizer.all_special_ids, *(i for i, t in tokenizer.added_tokens_decoder.items() if t.special)}
    scored = encoded.scored or [True] * len(encoded.ids)
    return any(token in special for token, is_target in zip(encoded.ids, scored, strict=True) if is_target)
