"""Windows over token sequences: which tokens the model reads to score which others. Pure functions.

There are two conventions, since "perplexity" is used for both:

``rolling``
    Each document separately, after a prefix token, in disjoint windows: lm-evaluation-harness's
    ``loglikelihood_rolling``.
``strided``
    All documents joined into one text, in overlapping windows: the transformers guide "Perplexity of fixed-length
    models".

Every token of a sequence except the first is scored exactly once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerBase

from textgen.data.document import Document
from textgen.data.examples.encode import encode_documents
from textgen.data.tokenization import encode, prefix_id
from textgen.errors import UserError
from textgen.evaluation.perplexity.convention import convention_problems

SEPARATOR = "\n\n"


@dataclass(frozen=True)
class WindowSettings:
    """A perplexity convention with its sizes; create it with :meth:`resolve`.

    Attributes:
        convention: "rolling" or "strided".
        context: maximum number of tokens the model reads at once.
        stride: tokens from the start of one window to the next; None for rolling.
    """

    convention: str
    context: int
    stride: int | None = None

    @classmethod
    def resolve(cls, convention: str, context: int, stride: int | None = None) -> "WindowSettings":
        """Validate the settings of a convention; the default stride of strided is half of the context.

        Raises:
            UserError: unknown convention, a stride outside 1 … context, or a stride with rolling.
        """
        if problems := convention_problems(convention, stride, context):
            raise UserError.of(problems)
        if convention == "strided" and stride is None:
            stride = max(1, context // 2)
        return cls(convention, context, stride)

    def cut(self, tokenizer: PreTrainedTokenizerBase, documents: Sequence[Document]) -> "list[TokenWindow]":
        """Tokenize the documents and cut them into windows.

        Raises:
            UserError: the tokenizer lacks what the convention needs.
        """
        if self.stride is None:
            return rolling_token_windows(tokenizer, documents, self.context)
        return strided_token_windows(tokenizer, documents, self.context, self.stride)


@dataclass(frozen=True)
class Window:
    """Positions in a token sequence: one forward pass reads ``[start, end - 1)`` and scores ``[scored, end)``."""

    start: int
    scored: int
    end: int


@dataclass(frozen=True)
class TokenWindow:
    """The tokens of one window.

    Attributes:
        inputs: token ids that the model reads, [length].
        targets: token ids that are scored, one after each of the last positions of ``inputs``, [targets].
        owners: index of the document that each target belongs to, [targets].
    """

    inputs: np.ndarray
    targets: np.ndarray
    owners: np.ndarray


def rolling_windows(length: int, context: int, first: int = 1) -> list[Window]:
    """Windows over a prefix token and its document, ``length`` tokens in total, that score all from ``first`` on once.

    Same as lm-evaluation-harness's ``get_rolling_token_windows`` with one token of context: disjoint targets,
    ``context`` of them per window, and the last window extended to the left to read a full context if possible.
    """
    assert context >= 1, context
    windows = []
    for scored in range(first, length, context):
        end = min(scored + context, length)
        windows.append(Window(max(0, end - 1 - context), scored, end))
    return windows


def strided_windows(length: int, context: int, stride: int) -> list[Window]:
    """Windows of ``context`` tokens, ``stride`` apart, that score every one of ``length`` tokens but the first once.

    As in the transformers guide "Perplexity of fixed-length models", each window scores the tokens that the previous
    one did not reach, its last ``stride`` tokens. The only difference is at ``stride == context``, where the guide
    skips the first token of every window; here the window reads one more preceding token instead.
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


def rolling_token_windows(
    tokenizer: PreTrainedTokenizerBase, documents: Sequence[Document], context: int
) -> list[TokenWindow]:
    """The windows of each document after the token that precedes documents in training, usually BOS or EOS.

    Of an example of a task, only the completion or the answers are scored, after all that precedes them.

    The same numbers as lm-evaluation-harness's, except that the tokenizer is kept from adding its own BOS to the text,
    which would be scored after the prefix.

    Raises:
        UserError: the tokenizer has neither BOS nor EOS.
    """
    prefix = prefix_id(tokenizer)
    if prefix is None:
        raise UserError(
            "--convention rolling: the tokenizer has neither a BOS nor an EOS token to put before a document. "
            "Add one to the tokenizer, or use --convention strided."
        )
    found = []
    for index, written in enumerate(encode_documents(tokenizer, documents)):
        encoded = written.after(prefix)
        sequence = np.array([prefix, *encoded.ids], dtype=np.int64)
        owners = np.full(len(sequence), index)
        for first, end in encoded.scored_runs():
            found += _cut(sequence, owners, rolling_windows(end + 1, context, first + 1))
    return found


def strided_token_windows(
    tokenizer: PreTrainedTokenizerBase, documents: Sequence[Document], context: int, stride: int
) -> list[TokenWindow]:
    """The windows of all documents, joined by an empty line and tokenized as one text.

    A token belongs to the document in which it begins, and a separator to the document before it.

    Raises:
        UserError: the tokenizer does not report where in the text a token begins.
    """
    if not tokenizer.is_fast:
        raise UserError(
            "--convention strided: this tokenizer does not report where its tokens begin in the text (it is not a "
            "fast one), so they cannot be assigned to documents. Use --convention rolling."
        )
    if any(document.completion_only for document in documents):
        raise UserError(
            "--convention strided: it joins the documents into one text, in which prompts would be scored too. Use "
            "--convention rolling, or --loss-on all."
        )
    if not documents:
        return []
    lengths = [len(document.text) + len(SEPARATOR) for document in documents]
    ends = np.cumsum(lengths)  # of each document including the separator after it, in characters
    text = SEPARATOR.join(document.text for document in documents)
    encoded = encode(tokenizer, [text], return_offsets_mapping=True)
    ids = np.array(encoded["input_ids"][0], dtype=np.int64)
    begins = np.array(encoded["offset_mapping"][0], dtype=np.int64).reshape(-1, 2)[:, 0]
    owners = np.minimum(np.searchsorted(ends, begins, side="right"), len(documents) - 1)
    return _cut(ids, owners, strided_windows(len(ids), context, stride))


def _cut(sequence: np.ndarray, owners: np.ndarray, windows: Sequence[Window]) -> list[TokenWindow]:
    return [
        TokenWindow(sequence[w.start : w.end - 1], sequence[w.scored : w.end], owners[w.scored : w.end])
        for w in windows
    ]
