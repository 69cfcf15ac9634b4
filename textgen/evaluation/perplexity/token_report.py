"""Token-level metrics of a perplexity pass: loss by position, calibration, and the hardest tokens."""

import heapq
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from textgen.data.document import Document
from textgen.data.tokenization import decode_text
from textgen.evaluation.perplexity.document_sums import CONFIDENCE_BINS, HARDEST, TokenSums, WindowScore, add_up
from textgen.evaluation.perplexity.token_windows import TokenWindow
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
    nll_intervals, accuracy_intervals = (_intervals(sums, table, seed) for table in ("by_position", "by_confidence"))
    positions = []
    for number, tokens, nll in total.by_position:
        entry = {"from": 2 ** (int(number) - 1) + 1 if number else 1, "to": 2 ** int(number), "tokens": tokens}
        positions.append(entry | {"nll": nll / tokens, "nll_interval": nll_intervals[number]})
    bins = []
    for number, tokens, right, confidence in total.by_confidence:
        entry = {"from": number / CONFIDENCE_BINS, "to": (number + 1) / CONFIDENCE_BINS, "tokens": tokens}
        entry |= {"confidence": confidence / tokens, "accuracy": right / tokens}
        bins.append(entry | {"accuracy_interval": accuracy_intervals[number]})
    distances = (abs(right - confidence) for _, _, right, confidence in total.by_confidence)
    return {
        "expected_calibration_error": math.fsum(distances) / total.tokens if total.tokens else None,
        "calibration": bins,
        "loss_by_position": positions,
    }


def _intervals(sums: Sequence[TokenSums], table: str, seed: int) -> dict[float, list[float] | None]:
    """95 % interval of each bin's Σ of its third column / Σ tokens, over all documents, with or without tokens in it.

    None for a bin whose tokens are all from one document.
    """
    numbers = sorted({row[0] for part in sums for row in getattr(part, table)})
    places = {number: place for place, number in enumerate(numbers)}
    columns = np.zeros((2 * len(places), len(sums)))
    for document, part in enumerate(sums):
        for number, tokens, value, *_ in getattr(part, table):
            columns[2 * places[number], document], columns[2 * places[number] + 1, document] = value, tokens
    resampled = resampled_sums(list(columns), seed=seed) if places else columns
    found: dict[float, list[float] | None] = {}
    for number, place in places.items():
        values, tokens = resampled[:, 2 * place], resampled[:, 2 * place + 1]
        caught = tokens > 0  # a resample may contain no document with tokens in this bin
        enough = np.count_nonzero(columns[2 * place + 1]) >= 2
        interval = percentile_interval(ratio(values[caught], tokens[caught]), items=len(sums)) if enough else None
        found[number] = list(interval) if interval else None
    return found


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
