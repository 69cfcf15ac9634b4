"""Text → token ids and back, without the special tokens, truncation and clean-up that tokenizers add by default."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from textgen.errors import UserError

if TYPE_CHECKING:  # transformers takes a second to import, and the checks before it use this module
    from transformers import PreTrainedTokenizerBase

_KEEP = "textgen_keeps_special_tokens"  # attribute of a tokenizer that :func:`keep_special_tokens` was called with


def keep_special_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    """From now on, encode the name of a special token in a text as that token, for texts with such marks of their own.

    By default it is encoded like any other text: a page that explains ``<|endoftext|>`` does not end there.
    """
    setattr(tokenizer, _KEEP, True)


def encode(tokenizer: PreTrainedTokenizerBase, texts: list[str], **options: Any) -> Any:
    """Encode texts with no special tokens, no truncation and no padding.

    Args:
        tokenizer: any Hugging Face tokenizer.
        texts: the texts to encode.
        options: further arguments of the tokenizer, such as ``return_offsets_mapping``.

    Returns:
        What the tokenizer returns: ``["input_ids"]`` has a list of ids for each text.
    """
    return tokenizer(
        texts,
        add_special_tokens=False,
        split_special_tokens=_splits(tokenizer),
        truncation=False,
        padding=False,
        verbose=False,  # no warning about texts longer than the model's context
        return_attention_mask=False,
        **options,
    )


def encode_batch(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    """Token ids of each text, as :func:`encode` returns them, but faster."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return [list(ids) for ids in encode(tokenizer, texts)["input_ids"]] if texts else []
    backend.encode_special_tokens = _splits(tokenizer)  # the tokenizer sets it again at each call
    return [encoding.ids for encoding in backend.encode_batch_fast(texts, add_special_tokens=False)]


def encode_start(tokenizer: PreTrainedTokenizerBase, text: str, count: int) -> list[int]:
    """The first ``count`` token ids of the text (all, if it has fewer), without tokenizing all of a long text.

    Cutting a text can change the tokens near the cut. So a prefix of the text is long enough only if it has at least
    twice as many tokens as needed, and a prefix of twice its length starts with the same ids. No special tokens are
    added.
    """

    def ids_of(piece: str) -> list[int]:
        return list(encode(tokenizer, [piece])["input_ids"][0])

    characters = 1024 + 16 * count
    while 2 * characters < len(text):
        ids = ids_of(text[:characters])
        if len(ids) >= 2 * count and ids[:count] == ids_of(text[: 2 * characters])[:count]:
            return ids[:count]
        characters *= 2
    return ids_of(text)[:count]


def decode_text(tokenizer: PreTrainedTokenizerBase, token_ids: Sequence[int], *, skip_special_tokens: bool) -> str:
    """The exact text of token ids, without the clean-up that removes spaces before punctuation."""
    text = tokenizer.decode(
        list(token_ids), skip_special_tokens=skip_special_tokens, clean_up_tokenization_spaces=False
    )
    assert isinstance(text, str)
    return text


@dataclass(frozen=True)
class DocumentMarks:
    """The special tokens before and after a document; one and the same token for GPT-2 and many others.

    Attributes:
        before: the token that a document follows, in training and when it is scored.
        after: the token that ends a document.
    """

    before: int
    after: int

    @property
    def opening(self) -> list[int]:
        """What a stream of documents begins with: the mark before the first one, if it is also the mark after each."""
        return [self.before] if self.before == self.after else []

    def frame(self, ids: Sequence[int]) -> list[int]:
        """A document's tokens as a stream of documents contains them, after :attr:`opening`."""
        return [*ids, self.after] if self.before == self.after else [self.before, *ids, self.after]


def document_marks(tokenizer: PreTrainedTokenizerBase) -> DocumentMarks:
    """The special tokens around documents.

    Before a document comes the token that the tokenizer itself puts before a text, as in pretraining. If it puts none
    there, it is begin-of-text, or end-of-text without a begin-of-text, as lm-evaluation-harness has it.

    Raises:
        UserError: the tokenizer has neither begin-of-text nor end-of-text.
    """
    before, after = prefix_id(tokenizer), tokenizer.eos_token_id
    if before is None:
        raise UserError(
            f"--model {tokenizer.name_or_path}: its tokenizer has no end-of-text token to separate documents with."
        )
    return DocumentMarks(before, before if after is None else int(after))


def prefix_id(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The token before a document, see :func:`document_marks`; None if there is neither begin- nor end-of-text."""
    if added := added_before(tokenizer):
        return added[-1]
    token = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    return None if token is None else int(token)


def added_before(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The special tokens that the tokenizer itself puts before a text: ``<s>`` for Llama, none for GPT-2."""
    plain = encode_batch(tokenizer, ["a"])[0]
    marked = list(tokenizer("a")["input_ids"])
    starts = (i for i in range(len(marked)) if marked[i : i + len(plain)] == plain)
    return marked[: next(starts, 0)]


def unknown_id(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Id of the token for text that the tokenizer does not know; None if it knows all text.

    GPT-2's tokenizer names ``<|endoftext|>`` for it, and never needs it: a token that stands around documents as well
    is not counted as unknown.
    """
    unknown = tokenizer.unk_token_id
    return None if unknown in (None, tokenizer.eos_token_id, tokenizer.bos_token_id) else int(unknown)


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """SHA-256 of everything that a text's token ids depend on."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    content = backend.to_str() if backend is not None else json.dumps(sorted(tokenizer.get_vocab().items()))
    marks = f"{tokenizer.eos_token}{tokenizer.bos_token}{added_before(tokenizer)}{_splits(tokenizer)}"
    return hashlib.sha256(f"{content}{marks}{tokenizer.chat_template}".encode()).hexdigest()


def _splits(tokenizer: PreTrainedTokenizerBase) -> bool:
    return not getattr(tokenizer, _KEEP, False)
