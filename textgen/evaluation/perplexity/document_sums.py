"""What is kept of scored tokens: sums by document, from which every figure of a perplexity pass is made.

A tally holds sums and counts only, so that tallies of any parts of the work, from any process or an earlier run, add up
to the same: sum, reduce, then divide.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from textgen.data.document import Document
from textgen.evaluation.decoding.prompts import text_of
from textgen.evaluation.perplexity.windows import Passage
from textgen.evaluation.uncertainty.bootstrap import percentile_interval, ratio, resampled_sums
from textgen.model.token_scores import TokenScores

CONFIDENCE_BINS = 10
HARDEST = 20
TOKENS_BEFORE, TOKENS_AFTER = 24, 8  # that a hardest token is shown with


@dataclass(frozen=True)
class Tally:
    """Sums over the scored tokens of one document, or of the part of it that one window scored.

    Attributes:
        nll: Σ nll, in nats.
        tokens: how many were scored.
        top_1: of how many the model took the token for the likeliest.
        top_5: of how many it was among the five likeliest.
        by_position: rows [n, tokens, Σ nll] of the tokens that came after 2^(n−1)+1 … 2^n tokens of context; n = 0 is
            one token.
        by_confidence: rows [n, tokens, top_1, Σ confidence] of the tokens at which the model gave its likeliest token
            a probability of n/10 up to (n+1)/10.
    """

    nll: float
    tokens: int
    top_1: int
    top_5: int
    by_position: list[list[float]]
    by_confidence: list[list[float]]


@dataclass(frozen=True)
class PassageScore:
    """What came of one window.

    Attributes:
        tallies: one for each document that owns targets of it, in their order.
        hardest: rows [nll, target, likeliest, confidence] of up to :data:`HARDEST` targets, by their number in the
            window; the hardest first.
    """

    tallies: list[Tally]
    hardest: list[list[float]]


def tally_passage(passage: Passage, scores: TokenScores) -> PassageScore:
    """The sums of one window, in float64, from the scores of its targets (on the CPU)."""
    nll = scores.nll.double().numpy()
    confidence = scores.confidence.double().numpy()
    likeliest, among_top = scores.likeliest.numpy(), scores.among_top.numpy()
    right = likeliest == passage.targets
    context = len(passage.inputs) - len(passage.targets) + 1 + np.arange(len(passage.targets))
    position = np.frexp(context - 1)[1]  # bits of context - 1: the exponent of the power of two that it fits under
    # A model gone to NaN is told of where its nll is looked at.
    bins = np.minimum((np.nan_to_num(confidence) * CONFIDENCE_BINS).astype(np.int64), CONFIDENCE_BINS - 1)
    tallies = []
    for owner in np.unique(passage.owners):
        own = passage.owners == owner
        tallies.append(
            Tally(
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
    return PassageScore(tallies, hardest)


def _binned(bins: np.ndarray, *values: np.ndarray) -> list[list[float]]:
    """A row [bin, count, Σ of each of the values] for each bin that has anything in it."""
    counts = np.bincount(bins)
    sums = [np.bincount(bins, weights=value) for value in values]
    return [[int(n), int(counts[n]), *(float(total[n]) for total in sums)] for n in np.flatnonzero(counts)]


def add_up(parts: Sequence[Tally]) -> Tally:
    """The tally of all the parts together, whatever their order, to the last bit."""
    return Tally(
        nll=math.fsum(part.nll for part in parts),
        tokens=sum(part.tokens for part in parts),
        top_1=sum(part.top_1 for part in parts),
        top_5=sum(part.top_5 for part in parts),
        by_position=_merged(row for part in parts for row in part.by_position),
        by_confidence=_merged(row for part in parts for row in part.by_confidence),
    )


def _merged(rows: Iterable[list[float]]) -> list[list[float]]:
    by_bin: dict[int, list[list[float]]] = {}
    for number, *values in rows:
        by_bin.setdefault(int(number), []).append(values)
    merged = []
    for number, parts in sorted(by_bin.items()):
        count, *sums = (math.fsum(column) for column in zip(*parts, strict=True))
        merged.append([number, int(count), *sums])
    return merged


def token_figures(tallies: Sequence[Tally], *, seed: int) -> dict[str, Any]:
    """Loss by position and calibration, with 95 % intervals over resampled documents.

    ``loss_by_position``: for each range ``from`` … ``to`` of the number of tokens that the model had read, ``tokens``
    and the mean ``nll``. ``calibration``: for each range of the probability of the likeliest token, ``tokens``, the
    mean ``confidence`` and the ``accuracy``, how often it was right; ``expected_calibration_error`` is the mean over
    tokens of the distance of the two, Σ tokens · |accuracy − confidence| / Σ tokens (Guo et al., arXiv 1706.04599,
    equation 3). It has no interval: chance makes the distance in a bin larger but not smaller, so resampling would
    put an interval beside the figure.
    """
    total = add_up(tallies)
    positions = []
    for number, tokens, nll in total.by_position:
        interval = _interval(tallies, "by_position", number, 2, seed)
        entry = {"from": 2 ** (int(number) - 1) + 1 if number else 1, "to": 2 ** int(number), "tokens": tokens}
        positions.append(entry | {"nll": nll / tokens, "nll_interval": interval})
    bins = []
    for number, tokens, right, confidence in total.by_confidence:
        entry = {"from": number / CONFIDENCE_BINS, "to": (number + 1) / CONFIDENCE_BINS, "tokens": tokens}
        entry |= {"confidence": confidence / tokens, "accuracy": right / tokens}
        bins.append(entry | {"accuracy_interval": _interval(tallies, "by_confidence", number, 2, seed)})
    distances = (abs(right - confidence) for _, _, right, confidence in total.by_confidence)
    return {
        "expected_calibration_error": math.fsum(distances) / total.tokens if total.tokens else None,
        "calibration": bins,
        "loss_by_position": positions,
    }


def _interval(tallies: Sequence[Tally], table: str, number: float, column: int, seed: int) -> list[float] | None:
    """Of Σ column / Σ tokens of one bin, over documents; those that have nothing in it are drawn too.

    None if all of the bin is one document's: there is nothing to tell how another would differ.
    """
    found = [{row[0]: row for row in getattr(tally, table)}.get(number) for tally in tallies]
    if sum(row is not None for row in found) < 2:
        return None
    columns = [[row[i] if row else 0.0 for row in found] for i in (column, 1)]
    sums = resampled_sums(columns, seed=seed)
    caught = sums[sums[:, 1] > 0]  # a resample may hold none of the documents that reach so far
    return list(percentile_interval(ratio(caught[:, 0], caught[:, 1]), items=len(tallies)))


def hardest_tokens(
    passages: Sequence[Passage],
    scores: Sequence[PassageScore],
    documents: Sequence[Document],
    tokenizer: PreTrainedTokenizerBase,
) -> list[dict[str, Any]]:
    """The tokens of the highest nll, hardest first, as text, with what stood before and after and what was expected."""
    rows = [(row, index) for index, score in enumerate(scores) for row in score.hardest]
    rows.sort(key=lambda pair: (-pair[0][0], pair[1], pair[0][1]))
    found = []
    for (nll, number, likeliest, confidence), index in rows[:HARDEST]:
        passage, target = passages[index], int(number)
        read = len(passage.inputs) - len(passage.targets) + 1 + target
        pieces: dict[str, Any] = {
            "before": passage.inputs[max(0, read - TOKENS_BEFORE) : read],
            "token": passage.targets[target : target + 1],
            "after": passage.targets[target + 1 : target + 1 + TOKENS_AFTER],
            "expected": [int(likeliest)],
        }
        found.append(
            {"document": documents[passage.owners[target]].id, "nll": nll}
            | {
                name: text_of(tokenizer, [int(i) for i in ids], skip_special_tokens=False)
                for name, ids in pieces.items()
            }
            | {"expected_probability": confidence}
        )
    return found
