"""A look at what is trained on, before anything is: a few examples with their targets set apart.

Training on the wrong tokens is silent: the loss falls, and the model never learns to stop, or learns to ask questions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from textgen.data.document import Document
from textgen.data.examples.encode import EncodedDocument, encode_documents
from textgen.data.examples.rows import place
from textgen.data.tokenization import decode_text, document_marks

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

OPEN, CLOSE = "[[", "]]"
LONGEST = 400  # characters of a part that are shown


def show_examples(
    tokenizer: PreTrainedTokenizerBase, documents: Sequence[Document], *, training: bool = True
) -> list[str]:
    """Two lines for each example: the number of its targets, and its text with these between ``[[`` and ``]]``.

    Args:
        tokenizer: the model's tokenizer.
        documents: some examples.
        training: show what is trained on, with the end-of-text token; otherwise what perplexity scores.

    Raises:
        UserError: a chat cannot be written by the tokenizer's template.
    """
    lines = []
    for document, encoded in zip(documents, encode_documents(tokenizer, documents), strict=True):
        shown = as_trained(tokenizer, encoded) if training else encoded
        targets = sum(end - start for start, end in shown.scored_runs())
        lines += [f"  {document.id} ({targets} of {len(shown.ids)} tokens)", f"    {_marked(tokenizer, shown)}"]
    return lines


def as_trained(tokenizer: PreTrainedTokenizerBase, encoded: EncodedDocument) -> EncodedDocument:
    """An example with the tokens around it: that before it is context, and the end-of-text token after it is a target
    if the last token before that is one."""
    marks = document_marks(tokenizer)
    own = encoded.after(marks.before).until(marks.after)
    scored = own.scored or [True] * len(own.ids)
    return EncodedDocument([marks.before, *own.ids, marks.after], [False, *scored, scored[-1]])


def audit_problems(
    tokenizer: PreTrainedTokenizerBase, documents: Sequence[Document], *, data: str, template: str, training: bool
) -> list[str]:
    """What is wrong with the targets of some examples, one message each.

    Args:
        tokenizer: the model's tokenizer.
        documents: some examples.
        data: the flag and the name of the data that they come from.
        template: the flag that the chat template comes from.
        training: the model learns from this data, or from data of the same kind, so it must learn to stop.

    Raises:
        UserError: a chat cannot be written by the tokenizer's template.
    """
    encoded = encode_documents(tokenizer, documents)
    chats = [(d, e) for d, e in zip(documents, encoded, strict=True) if d.messages]
    if not chats:  # a completion is not blank, and the end-of-text token follows it
        return []
    if not any(e.scored_runs() for _, e in chats):
        where = place(chats[0][0].id, chats[0][0].source)
        return [
            f"{data}: no chat has a target, such as {where}: the chat template writes nothing for the assistant's "
            f"answers ({template}). Use --loss-on all, or another template."
        ]
    if training and not any(_ends(tokenizer, e) for _, e in chats):
        return [
            f"{template}: the end of the assistant's turn is never a target in the chats of {data}: the template "
            f"writes no special token after an answer{_unknown_names(tokenizer)}, so the model would not learn to "
            "stop. Use another template."
        ]
    return []


def _ends(tokenizer: PreTrainedTokenizerBase, encoded: EncodedDocument) -> bool:
    """Whether a run of targets ends with a special token, up to white space."""
    special = {*tokenizer.all_special_ids, *(i for i, t in tokenizer.added_tokens_decoder.items() if t.special)}
    for start, end in encoded.scored_runs():
        last = next((i for i in reversed(encoded.ids[start:end]) if i in special or _is_visible(tokenizer, i)), None)
        if last in special:
            return True
    return False


def _unknown_names(tokenizer: PreTrainedTokenizerBase) -> str:
    """What a template writes like a special token of another tokenizer, as a clause in brackets; empty for nothing."""
    names = dict.fromkeys(re.findall(r"<\|\w+\|>", str(tokenizer.chat_template)))
    vocabulary = tokenizer.get_vocab()
    unknown = [name for name in names if name not in vocabulary]
    return f" ({', '.join(unknown)}: no token of this tokenizer)" if unknown else ""


def _is_visible(tokenizer: PreTrainedTokenizerBase, token: int) -> bool:
    return bool(decode_text(tokenizer, [token], skip_special_tokens=False).strip())


def _marked(tokenizer: PreTrainedTokenizerBase, encoded: EncodedDocument) -> str:
    scored = encoded.scored or [True] * len(encoded.ids)
    shown, end, before = [], 0, ""
    for is_target, tokens in groupby(scored):
        end += len(list(tokens))
        # A tokenizer may not write the space before the first token, so the text is that of all tokens up to here.
        written = decode_text(tokenizer, encoded.ids[:end], skip_special_tokens=False)
        text, before = written[len(before) :], written
        if len(text) > LONGEST:
            text = f"{text[: LONGEST // 2]} … {text[-LONGEST // 2 :]}"
        text = text.replace("\n", "\\n")
        shown.append(f"{OPEN}{text}{CLOSE}" if is_target else text)
    return "".join(shown)
