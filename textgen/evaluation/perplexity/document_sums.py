"""Per-document sufficient statistics of scored tokens: the sums that every metric of a perplexity pass follows from.

They are only sums and counts, so partial results from any process or an earlier run add up to the same totals: sum,
reduce, then divide.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from textgen.evaluation.perplexity.token_windows import TokenWindow
from textgen.model.token_scores import TokenScores

CONFIDENCE_BINS = 10
HARDEST = 20


@dataclass(frozen=True)
class DocumentScore:
    """A document's negative log-likelihood in nats and its size in three units: a row of ``documents.jsonl``.

    ``top_1`` and ``top_5`` count the tokens that were the model's most probable one, or among its five most probable.
    """

    id: str
    nll: float
    tokens: int
    words: int
    bytes: int
    top_1: int = 0
    top_5: int = 0


@dataclass(frozen=True)
class TokenSums:
    """Sums over the scored tokens of one document, or of the part of it in one window.

    Attributes:
        nll: Σ nll, in nats.
        tokens: number of scored tokens.
        top_1: number of tokens that were the model's most probable one.
        top_5: number of tokens among its five most probable.
        by_position: rows [n, tokens, Σ nll] for the tokens with 2^(n−1)+1 … 2^n tokens of context; n = 0 is one
            token of context.
        by_confidence: rows [n, tokens, top_1, Σ confidence] for the tokens where the model's most probable token had a
            probability from n/10 to (n+1)/10.
    """

    nll: float
    tokens: int
    top_1: int
    top_5: int
    by_position: list[list[float]]
    by_confidence: list[list[float]]


@dataclass(frozen=True)
class WindowScore:
    """The result of one window.

    Attributes:
        sums: one per document that has targets in it, in the order of the documents.
        hardest: rows [nll, index of the target in the window, most probable token, its probability] of up to
            :data:`HARDEST` targets, highest nll first.
    """

    sums: list[TokenSums]
    hardest: list[list[float]]


def sum_window(window: TokenWindow, scores: TokenScores) -> WindowScore:
    """Sum one window's scores (on the CPU), in float64."""
    nll = scores.nll.double().numpy()
    confidence = scores.confidence.double().numpy()
    likeliest, among_top = scores.likeliest.numpy(), scores.among_top.numpy()
    right = likeliest == window.targets
    context = len(window.inputs) - len(window.targets) + 1 + np.arange(len(window.targets))
    position = np.frexp(context - 1)[1]  # bits of context - 1, which is log2(context) rounded up
    # A NaN is reported later, where the nll is checked.
    bins = np.minimum((np.nan_to_num(confidence) * CONFIDENCE_BINS).astype(np.int64), CONFIDENCE_BINS - 1)
    sums = []
    for owner in np.unique(window.owners):
        own = window.owners == owner
        sums.append(
            TokenSums(
                nll=math.fsum(nll[own]),
                tokens=int(own.sum()),
                top_1=int(right[own].sum()),
                top_5=int(among_top[own].sum()),
                by_position=_binned(position[own], nll[own]),
                by_confidence=_binned(bins[own], right[own], confidence[own]),
            )
        )
    order = np.argsort(-nll, kind="stable")[:HARDEST]
    hardest = [[float(nll[j]), int(j), int(likeliest[j]), float(confidence[j])] for j in order]
    return WindowScore(sums, hardest)


def add_up(parts: Sequence[TokenSums]) -> TokenSums:
    """Add up partial sums; bitwise identical in any order."""
    return TokenSums(
        nll=math.fsum(part.nll for part in parts),
        tokens=sum(part.tokens for part in parts),
        top_1=sum(part.top_1 for part in parts),
        top_5=sum(part.top_5 for part in parts),
        by_position=_merged(row for part in parts for row in part.by_position),
        by_confidence=_merged(row for part in parts for row in part.by_confidence),
    )


def exact_sums(parts: Sequence[TokenSums]) -> list[TokenSums]:
    """One or two sums that add up to the same as the parts, to the last bit: what a process sends for a document.

    The second one is the rounding error of the first, with counts of 0. Together they have 106 bits, so the total over
    processes is rounded once, as if one process had added up all parts.
    """
    total = add_up(parts)
    if len(parts) == 1 or not math.isfinite(total.nll):
        return [total]
    minus = TokenSums(
        *(-total.nll, -total.tokens, -total.top_1, -total.top_5),
        by_position=[[number, *(-value for value in values)] for number, *values in total.by_position],
        by_confidence=[[number, *(-value for value in values)] for number, *values in total.by_confidence],
    )
    return [total, add_up([*parts, minus])]


def without_bins(sums: TokenSums) -> TokenSums:
    """The same without the parts by position and by confidence, which only a token report needs."""
    return replace(sums, by_position=[], by_confidence=[])


def _binned(bins: np.ndarray, *values: np.ndarray) -> list[list[float]]:
    """A row [bin, count, Σ of each of the values] for each non-empty bin."""
    counts = np.bincount(bins)
    sums = [np.bincount(bins, weights=value) for value in values]
    return [[int(n), int(counts[n]), *(float(total[n]) for total in sums)] for n in np.flatnonzero(counts)]


def _merged(rows: Iterable[list[float]]) -> list[list[float]]:
    by_bin: dict[int, list[list[float]]] = {}
    for number, *values in rows:
        by_bin.setdefault(int(number), []).append(values)
    merged = []
    for number, parts in sorted(by_bin.items()):
        count, *sums = (math.fsum(column) for column in zip(*parts, strict=True))
        merged.append([number, int(count), *sums])
    return merged
