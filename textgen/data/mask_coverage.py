"""How much of the training data is trained on: targets among the tokens, and examples that lose something."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from textgen.data.corpus import Corpus
from textgen.data.mixed_corpus import MixedCorpus
from textgen.data.token_stream import TokenStream

_AT_A_TIME = 1 << 18  # documents


@dataclass(frozen=True)
class MaskCoverage:
    """What is trained on of data with examples of a task.

    Attributes:
        documents: training documents.
        examples: training documents that are examples.
        tokens: training tokens.
        targets: training tokens that are trained on; the others are context only.
        cut: documents with a prompt that do not fit into one block: the rest is trained on without the beginning.
        without_prompt: of these, those whose prompt fills the block, so that nothing is trained on with all of it.
        untargeted: examples in which nothing is a target.
        left_out: rows of the data that are no examples, since they have no completion or answer.
    """

    documents: int
    examples: int
    tokens: int
    targets: int
    cut: int
    without_prompt: int
    untargeted: int
    left_out: int


def mask_coverage(corpus: Corpus | MixedCorpus, block_size: int, packing: str) -> MaskCoverage | None:
    """The coverage of a corpus; None if it has no example.

    Args:
        corpus: the training data.
        block_size: tokens in a block.
        packing: how documents fill blocks, as for :class:`textgen.data.blocks.GlobalBatches`.
    """
    counts = corpus.counts
    if not counts.examples:
        return None
    parts = [corpus] if isinstance(corpus, Corpus) else corpus.corpora
    lost = [count_cut(part.stream, block_size, whole=packing == "none") for part in parts]
    return MaskCoverage(
        documents=corpus.documents,
        examples=counts.examples,
        tokens=corpus.token_count,
        targets=sum(part.targets for part in parts),
        cut=sum(cut for cut, _ in lost),
        without_prompt=sum(without for _, without in lost),
        untargeted=counts.untargeted,
        left_out=counts.left_out,
    )


def count_cut(stream: TokenStream, block_size: int, *, whole: bool) -> tuple[int, int]:
    """Number of documents with a prompt that are not in one block, and of those whose first target is in a later one.

    Args:
        stream: the training documents.
        block_size: tokens in a block; its first token is the last one of the block before.
        whole: each document starts a new block.
    """
    counts = [_count_cut(stream, block_size, whole, first) for first in range(0, len(stream.offsets), _AT_A_TIME)]
    return sum(cut for cut, _ in counts), sum(without for _, without in counts)


def _count_cut(stream: TokenStream, block_size: int, whole: bool, first: int) -> tuple[int, int]:
    """What :func:`count_cut` returns, of ``_AT_A_TIME`` documents from number ``first`` on."""
    # Where the next document begins, or would begin.
    ends = np.append(stream.offsets[first + 1 : first + 1 + _AT_A_TIME], len(stream.ids) + (not stream.shared_mark))
    starts, ends = np.asarray(stream.offsets[first : first + _AT_A_TIME]), ends[:_AT_A_TIME]
    # Edges alternate between begin and end of a stretch of context, and one may end where a document begins.
    low, high = (place + place % 2 for place in np.searchsorted(stream.edges, [starts[0], ends[-1]]))
    begins, context_ends = np.asarray(stream.edges[low:high:2]), np.asarray(stream.edges[low + 1 : high : 2])
    owners = np.searchsorted(starts, begins, side="right") - 1
    with_prompt, stretch = np.unique(owners, return_index=True)
    starts, last = starts[with_prompt], ends[with_prompt] - (1 if stream.shared_mark else 2)  # the end-of-text token
    first_target = np.where(begins[stretch] == starts, context_ends[stretch], starts)
    origin = starts - 1 if whole else np.zeros_like(starts)

    def block(position: np.ndarray) -> np.ndarray:
        return np.asarray((position - 1 - origin) // (block_size - 1))

    cut = block(last) != block(starts)
    without = cut & (first_target <= last) & (block(np.minimum(first_target, last)) != block(starts))
    return int(cut.sum()), int(without.sum())
