"""Which tokens the model reads to score which others: windows over token sequences, as pure functions.

A window reads a stretch of tokens and scores the last of them; over a sequence, every token that something precedes is
scored exactly once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from textgen.data.document import Document
from textgen.errors import UserError

SEPARATOR = "\n\n"


@dataclass(frozen=True)
class Window:
    """A stretch of a token sequence that one forward pass reads, ``[start, end - 1)``, to score ``[scored, end)``."""

    start: int
    scored: int
    end: int


@dataclass(frozen=True)
class Passage:
    """One window's tokens: ``inputs`` [length], and the last ``len(targets)`` positions' ``targets`` with their owners.

    ``owners`` [targets] is the index of the document that each target belongs to.
    """

    inputs: np.ndarray
    targets: np.ndarray
    owners: np.ndarray


def rolling_windows(length: int, context: int) -> list[Window]:
    """Windows over a prefix token and its document, ``length`` tokens in all, that score all but the prefix once each.

    As lm-evaluation-harness's ``get_rolling_token_windows`` with a context of one token: disjoint targets,
    ``context`` of them in each window, and the last window extended to the left, so that it reads a full context
    where there is one.
    """
    assert context >= 1, context
    windows = []
    for scored in range(1, length, context):
        end = min(scored + context, length)
        windows.append(Window(max(0, end - 1 - context), scored, end))
    return windows


def strided_windows(length: int, context: int, stride: int) -> list[Window]:
    """Windows of ``context`` tokens, ``stride`` apart, that score all of ``length`` tokens but the first once each.

    As in the transformers guide "Perplexity of fixed-length models": each window scores what the one before it did
    not reach, its last ``stride`` tokens. Only with ``stride == context`` is there a difference: there the guide
    leaves out the first token of every window, and here a window reads one token more of what precedes it.
    """
    assert 1 <= stride <= context, (stride, context)
    windows: list[Window] = []
    scored = 1
    for start in range(0, length, stride):
        end = min(start + context, length)
        if end > scored:
            windows.append(Window(min(start, scored - 1), scored, end))
            scored = end
    return windows


def rolling_passages(tokenizer: PreTrainedTokenizerBase, documents: Sequence[Document], context: int) -> list[Passage]:
    """The windows of each document after the prefix token: BOS, or EOS where there is no BOS.

    Raises UserError if the tokenizer has neither. The same numbers as lm-evaluation-harness's, except that this never
    lets a tokenizer put a BOS of its own in front of the text, which would score it after the prefix.
    """
    prefix = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    if prefix is None:
        raise UserError(
            "--convention rolling: the tokenizer has neither a BOS nor an EOS token to put before a document. "
            "Give it one, or say --convention strided."
        )
    passages = []
    encoded = _encode(tokenizer, [document.text for document in documents])["input_ids"] if documents else []
    for index, ids in enumerate(encoded):
        sequence = np.array([prefix, *ids], dtype=np.int64)
        passages += _cut(sequence, np.full(len(sequence), index), rolling_windows(len(sequence), context))
    return passages


def strided_passages(
    tokenizer: PreTrainedTokenizerBase, documents: Sequence[Document], context: int, stride: int
) -> list[Passage]:
    """The windows of all the documents joined by an empty line, and tokenised as one text.

    Raises UserError if the tokenizer cannot say where in the text a token begins.
    """
    if not tokenizer.is_fast:
        raise UserError(
            "--convention strided: this tokenizer does not say where in the text its tokens are (it is not a fast "
            "one), so they cannot be counted towards documents. Say --convention rolling."
        )
    if not documents:
        return []
    lengths = [len(document.text) + len(SEPARATOR) for document in documents]
    ends = np.cumsum(lengths)  # of each document with the separator behind it, in characters
    text = SEPARATOR.join(document.text for document in documents)
    encoded = _encode(tokenizer, [text], return_offsets_mapping=True)
    ids = np.array(encoded["input_ids"][0], dtype=np.int64)
    begins = np.array(encoded["offset_mapping"][0], dtype=np.int64).reshape(-1, 2)[:, 0]
    owners = np.minimum(np.searchsorted(ends, begins, side="right"), len(documents) - 1)
    return _cut(ids, owners, strided_windows(len(ids), context, stride))


def _encode(tokenizer: PreTrainedTokenizerBase, texts: list[str], **extra: Any) -> Any:
    # verbose=False: texts longer than the model's context are what windows are for, and no reason for a warning
    return tokenizer(
        texts,
        add_special_tokens=False,
        truncation=False,
        padding=False,
        verbose=False,
        return_attention_mask=False,
        **extra,
    )


def _cut(sequence: np.ndarray, owners: np.ndarray, windows: Sequence[Window]) -> list[Passage]:
    return [
        Passage(sequence[w.start : w.end - 1], sequence[w.scored : w.end], owners[w.scored : w.end]) for w in windows
    ]


def plan_batches(passages: Sequence[Passage], batch_tokens: int) -> list[list[int]]:
    """Indices of the passages, cut into batches of at most ``batch_tokens`` tokens with their padding, or one passage.

    Passages of like length and like number of targets share a batch, the longest come first, so that a batch that
    does not fit into memory is met at once. The plan does not know of processes: they share out its batches, so a
    batch, and with it the last bit of its result, is the same however many they are.
    """
    order = sorted(
        range(len(passages)), key=lambda index: (-len(passages[index].inputs), -len(passages[index].targets), index)
    )
    batches: list[list[int]] = []
    for index in order:
        if batches and (len(batches[-1]) + 1) * len(passages[batches[-1][0]].inputs) <= batch_tokens:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches
