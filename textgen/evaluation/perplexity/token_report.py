"""Token-level metrics of a perplexity pass: loss by position, calibration, and the hardest tokens."""

import heapq
import math
from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from textgen.data.document import Document
from textgen.data.tokenization import decode_text
from textgen.evaluation.perplexity.document_sums import CONFIDENCE_BINS, HARDEST, TokenSums, WindowScore, add_up
from textgen.evaluation.perplexity.windows import TokenWindow
from textgen.evaluation.uncertainty.bootstrap import percentile_interval, ratio, resampled_sums

TOKENS_BEFORE, TOKENS_AFTER = 24, 8  # context shown with a hardest token

HardestRow = tuple[float, int, int, int, float]
"""A token with a high nll: its nll, the index of its window and its place among the window's targets; the model's most
probable token, and its probability."""


def token_metrics(sums: Sequence[TokenSums], *, seed: int) -> dict[str, Any]:
    """Loss by position and calibration, with 95 % intervals over resampled documents.

    ``loss_by_position``: for each range ``from`` … ``to`` of the number of preceding tokens, ``tokens`` and the mean
    ``nll``. ``calibration``: for each range of the probability of the most probable token, ``tokens``, the mean
    ``confidence`` and the ``accuracy``. ``expected_calibration_error`` is the distance between the two, averaged over
    tokens: Σ tokens · |accuracy − confidence| / Σ tokens (Guo et al., arXiv 1706.04599, equation 3). It has no
    interval: sampling noise can only increase the expected distance in a bin, so a resampling interval would be biased.
    """
    total = add_up(sums)
    positions = []
    for number, tokens, nll in total.by_position:
        interval = _interval(sums, "by_position", number, 2, seed)
        entry = {"from": 2 ** (int(number) - 1) + 1 if number else 1, "to": 2 ** int(number), "tokens": tokens}
        positions.append(entry | {"nll": nll / tokens, "nll_interval": interval})
    bins = []
    for number, tokens, right, confidence in total.by_confidence:
        entry = {"from": number / CONFIDENCE_BINS, "to": (number + 1) / CONFIDENCE_BINS, "tokens": tokens}
        entry |= {"confidence": confidence / tokens, "accuracy": right / tokens}
        bins.append(entry | {"accuracy_interval": _interval(sums, "by_confidence", number, 2, seed)})
    distances = (abs(right - confidence) for _, _, right, confidence in total.by_confidence)
    return {
        "expected_calibration_error": math.fsum(distances) / total.tokens if total.tokens else None,
        "calibration": bins,
        "loss_by_position": positions,
    }


def _interval(sums: Sequence[TokenSums], table: str, number: float, column: int, seed: int) -> list[float] | None:
    """95 % interval of Σ column / Σ tokens of one bin, over all documents, including those without tokens in the bin.

    None if all of the bin's tokens are from one document.
    """
    found = [{row[0]: row for row in getattr(part, table)}.get(number) for part in sums]
    if sum(row is not None for row in found) < 2:
        return None
    columns = [[row[i] if row else 0.0 for row in found] for i in (column, 1)]
    resampled = resampled_sums(columns, seed=seed)
    caught = resampled[resampled[:, 1] > 0]  # a resample may contain no document with tokens in this bin
    return list(percentile_interval(ratio(caught[:, 0], caught[:, 1]), items=len(sums)))


def hardest_rows(scores: Mapping[int, WindowScore]) -> list[HardestRow]:
    """The :data:`HARDEST` tokens with the highest nll among these windows, by window index."""
    rows = (
        (nll, index, int(target), int(likeliest), confidence)
        for index, score in scores.items()
        for nll, target, likeliest, confidence in score.hardest
    )
    return heapq.nsmallest(HARDEST, rows, key=hardest_first)


def hardest_first(row: HardestRow) -> tuple[float, int, int]:
    """The sort key of hardest tokens: the highest nll first, ties in the order of the text."""
    nll, index, target, _, _ = row
    return -nll, index, target


def hardest_tokens(
    windows: Sequence[TokenWindow],
    rows: Sequence[HardestRow],
    documents: Sequence[Document],
    tokenizer: PreTrainedTokenizerBase,
) -> list[dict[str, Any]]:
    """The hardest tokens as text: with their context and the model's most probable token."""
    found = []
    for nll, index, target, likeliest, confidence in rows:
        window = windows[index]
        read = len(window.inputs) - len(window.targets) + 1 + target
        pieces: dict[str, Any] = {
            "before": window.inputs[max(0, read - TOKENS_BEFORE) : read],
            "token": window.targets[target : target + 1],
            "after": window.targets[target + 1 : target + 1 + TOKENS_AFTER],
            "expected": [likeliest],
        }
        found.append(
            {"document": documents[window.owners[target]].id, "nll": nll}
            | {
                name: decode_text(tokenizer, [int(i) for i in ids], skip_special_tokens=False)
                for name, ids in pieces.items()
            }
            | {"expected_probability": confidence}
        )
    return found
