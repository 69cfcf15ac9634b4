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

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from types import SimpleNamespace
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from textgen.data.document import Document
from textgen.data.examples.encode import encode_documents
from textgen.data.tokenization import encode, prefix_id
from textgen.errors import UserError
from textgen.evaluation.batching import share_runs
from textgen.evaluation.exchange import all_gather
from textgen.evaluation.perplexity.convention import convention_problems
from textgen.evaluation.perplexity.token_windows import TokenWindows, Window

SEPARATOR = "\n\n"
ALONE = SimpleNamespace(num_processes=1, process_index=0, is_main_process=True)
"""What stands for an Accelerator in a process without others."""

_BATCH_CHARACTERS = 1 << 20  # tokenized at a time: fast, and without the token ids of all texts as Python objects


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

    def cut(
        self, tokenizer: PreTrainedTokenizerBase, documents: Sequence[Document], processes: Any = ALONE
    ) -> "TokenWindows":
        """Tokenize the documents and cut them into windows; every process calls it.

        Args:
            tokenizer: the model's tokenizer.
            documents: the documents, the same on every process.
            processes: an Accelerator, whose processes divide the tokenization with ``rolling``.

        Raises:
            UserError: the tokenizer lacks what the convention needs.
        """
        if self.stride is None:
            return rolling_token_windows(tokenizer, documents, self.context, processes)
        return strided_token_windows(tokenizer, documents, self.context, self.stride, processes)


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
    tokenizer: PreTrainedTokenizerBase, documents: Sequence[Document], context: int, processes: Any = ALONE
) -> TokenWindows:
    """The windows of each document after the token that precedes documents in training, usually BOS or EOS.

    Of an example of a task, only the completion or the answers are scored, after all that precedes them.


    The same numbers as lm-evaluation-harness's, except that the tokenizer is kept from adding its own BOS to the text,
    which would be scored after the prefix. Each process tokenizes its share of the documents, and they exchange the
    lengths, which is all that a plan needs.

    Raises:
        UserError: the tokenizer has neither BOS nor EOS.
    """
    prefix = prefix_id(tokenizer)
    if prefix is None:
        raise UserError(
            "--convention rolling: the tokenizer has neither a BOS nor an EOS token to put before a document. "
            "Add one to the tokenizer, or use --convention strided."
        )

    runs: dict[int, list[tuple[int, int]]] = {}  # of targets in a document's own tokens

    def sequences_of(numbers: Sequence[int]) -> Iterator[np.ndarray]:
        for batch in _batches(numbers, documents):
            written = encode_documents(tokenizer, [documents[number] for number in batch])
            for number, encoded in zip(batch, (one.after(prefix) for one in written), strict=True):
                runs[number] = encoded.scored_runs()
                yield np.array([prefix, *encoded.ids], dtype=np.int32)

    share = share_runs([1] * len(documents), processes.num_processes)[processes.process_index]
    sequences = dict(zip(share, sequences_of(share), strict=True))
    spans = [
        (number, window)
        for number, document_runs in enumerate(_all_runs(processes, documents, [runs[number] for number in share]))
        for first, end in document_runs
        for window in rolling_windows(end + 1, context, first + 1)
    ]
    return TokenWindows(spans, sequences, lambda number: next(sequences_of([number])))


def _all_runs(
    processes: Any, documents: Sequence[Document], share: Sequence[list[tuple[int, int]]]
) -> Iterator[list[tuple[int, int]]]:
    """The runs of targets of every document, from those of each process's share."""
    if not any(document.completion_only for document in documents):  # each is one run, from its beginning
        ends = all_gather(processes, np.array([end for ((_, end),) in share], dtype=np.int32))
        yield from ([(0, end)] for part in ends for end in part.tolist())
        return
    numbers = all_gather(processes, np.array([len(runs) for runs in share], dtype=np.int32))
    edges = all_gather(processes, np.array([edge for runs in share for run in runs for edge in run], dtype=np.int32))
    pairs = ((int(first), int(end)) for part in edges for first, end in part.reshape(-1, 2))
    yield from (list(islice(pairs, int(number))) for part in numbers for number in part)


def strided_token_windows(
    tokenizer: PreTrainedTokenizerBase,
    documents: Sequence[Document],
    context: int,
    stride: int,
    processes: Any = ALONE,
) -> TokenWindows:
    """The windows of all documents, joined by an empty line and tokenized as one text, by every process.

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
    text = SEPARATOR.join(document.text for document in documents)
    encoded = encode(tokenizer, [text], return_offsets_mapping=True)
    ids = np.array(encoded["input_ids"][0], dtype=np.int32)
    begins = np.array(encoded["offset_mapping"][0], dtype=np.int64).reshape(-1, 2)[:, 0]
    ends = np.cumsum([len(document.text) + len(SEPARATOR) for document in documents])  # in characters
    owners = np.minimum(np.searchsorted(ends, begins, side="right"), len(documents) - 1)
    spans = [(0, window) for window in strided_windows(len(ids), context, stride)]
    return TokenWindows(spans, {0: ids}, lambda _: ids, owners, own=processes.process_index == 0)


def _batches(numbers: Iterable[int], documents: Sequence[Document]) -> Iterator[list[int]]:
    batch: list[int] = []
    size = 0
    for number in numbers:
        batch.append(number)
        size += len(documents[number].text)
        if size >= _BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
