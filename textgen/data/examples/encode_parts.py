"""Token ids of texts that consist of parts, such as a prompt and its completion.

The ids are those of the parts as one text, and a part ends where its last token does. So a tokenizer that begins each
text with a space, as those of the SentencePiece family do, adds none between the parts: ``2+2=`` and ``4`` become the
tokens of ``2+2=4``.

No token belongs to two parts. Where the ids of the whole text do not begin with those of the parts before a boundary,
such as after a prompt that ends with a space, the parts before it keep the ids that they have alone, which are those
that the model will be given when it is used, and those after it are tokenized as a continuation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from textgen.data.tokenization import encode_batch

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Encode = Callable[[list[str]], list[list[int]]]

_ANCHORS = ("\n", ".", "a")  # texts to put before another one, whose tokens then have no space of their own


@dataclass(frozen=True)
class Section:
    """A text in parts, without special tokens.

    Attributes:
        parts: its parts, in order.
        after_special_token: it follows a special token.
    """

    parts: tuple[str, ...]
    after_special_token: bool = False


def encode_sections(
    tokenizer: PreTrainedTokenizerBase, sections: Sequence[Section], encode_texts: Encode | None = None
) -> list[list[list[int]]]:
    """Token ids of each part of each section.

    Args:
        tokenizer: the model's tokenizer.
        sections: the texts in parts.
        encode_texts: does what :func:`encode_batch` does with this tokenizer, in another way.
    """
    plain = encode_texts or partial(encode_batch, tokenizer)
    reset = any(section.after_special_token for section in sections) and _begins_again(tokenizer)
    found: list[list[list[int]]] = [[[] for _ in section.parts] for section in sections]
    pending = [
        _Stretch(number, 0, section.parts, section.after_special_token and not reset)
        for number, section in enumerate(sections)
    ]
    while pending:
        fresh = [stretch for stretch in pending if not stretch.continues]
        continued = [stretch for stretch in pending if stretch.continues]
        prefixes = _encode_prefixes(plain, fresh)
        prefixes += _encode_prefixes(partial(_encode_continuations, tokenizer, plain), continued)
        pending = []
        for stretch, ids in zip(fresh + continued, prefixes, strict=True):
            merged = next((i for i, one in enumerate(ids) if ids[-1][: len(one)] != one), None)
            if merged is not None:
                pending += stretch.cut(merged + 1)
                continue
            ends = [0, *map(len, ids)]
            cut = [ids[-1][start:end] for start, end in pairwise(ends)]
            found[stretch.section][stretch.first : stretch.first + len(cut)] = cut
    return found


@dataclass(frozen=True)
class _Stretch:
    """Consecutive parts of a section, from the part ``first`` on; ``continues``: text precedes them."""

    section: int
    first: int
    parts: tuple[str, ...]
    continues: bool

    def cut(self, count: int) -> list[_Stretch]:
        """The first ``count`` parts, and the others."""
        return [
            replace(self, parts=self.parts[:count]),
            replace(self, first=self.first + count, parts=self.parts[count:], continues=True),
        ]


def _encode_prefixes(encode_texts: Encode, stretches: Sequence[_Stretch]) -> list[list[list[int]]]:
    """Of each stretch, the token ids of its text up to the end of each part."""
    written = [list(accumulate(stretch.parts)) for stretch in stretches]
    texts = [text for prefixes in written for text in prefixes]
    ids = iter(encode_texts(texts) if texts else [])
    return [[next(ids) for _ in prefixes] for prefixes in written]


def _encode_continuations(tokenizer: PreTrainedTokenizerBase, plain: Encode, texts: list[str]) -> list[list[int]]:
    """Token ids of texts that continue another one: without a space that the tokenizer puts before a text."""
    anchor = next((anchor for anchor in _ANCHORS if _separates(tokenizer, anchor)), "")
    before, both, alone = encode_batch(tokenizer, [anchor, f"{anchor}a", "a"])
    if both == before + alone:  # it puts none there
        return plain(texts)
    ids = plain([anchor + text for text in texts])
    merged = iter(plain([text for text, one in zip(texts, ids, strict=True) if one[: len(before)] != before]))
    return [one[len(before) :] if one[: len(before)] == before else next(merged) for one in ids]


def _separates(tokenizer: PreTrainedTokenizerBase, anchor: str) -> bool:
    """Whether a text after the anchor has tokens of its own."""
    before, both = encode_batch(tokenizer, [anchor, f"{anchor}a"])
    return bool(before) and len(both) > len(before) and both[: len(before)] == before


def _begins_again(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a text after a special token is encoded as at the beginning."""
    names = list(tokenizer.all_special_tokens)
    if not names:
        return True
    marked = tokenizer([f"{names[0]}a"], add_special_tokens=False, split_special_tokens=False)["input_ids"][0]
    return list(marked[1:]) == encode_batch(tokenizer, ["a"])[0]
