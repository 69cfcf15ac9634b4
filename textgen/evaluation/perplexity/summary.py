"""Perplexities from per-document sums: the four usual figures, their uncertainty, and paired differences."""

import math
import sys
from collections.abc import Sequence
from typing import Any

from textgen.evaluation.perplexity.document_sums import DocumentScore
from textgen.evaluation.perplexity.windows import WindowSettings
from textgen.evaluation.uncertainty.bootstrap import (
    bootstrap_paired_ratio_difference,
    percentile_interval,
    ratio,
    resampled_sums,
)

_UNITS = (("tokens", "token"), ("words", "word"), ("bytes", "byte"))


def perplexities(scores: Sequence[DocumentScore]) -> dict[str, Any]:
    """The sums over the documents, and the four figures that follow from them, without intervals.

    token_perplexity = exp(Σ nll / Σ tokens), word_perplexity and byte_perplexity likewise, bits_per_byte = Σ nll / (Σ
    bytes · ln 2). Only the last three compare models with different tokenizers. JSON has no infinity: a perplexity
    beyond the largest float (an nll of more than 709 nats a unit) is None, and so is token_perplexity if no token was
    scored.
    """
    assert scores, "no documents"
    nll = math.fsum(score.nll for score in scores)
    sizes = {unit: sum(getattr(score, unit) for score in scores) for unit, _ in _UNITS}
    figures: dict[str, Any] = {"documents": len(scores), "nll_sum": nll, **sizes}
    for unit, name in _UNITS:
        # With the strided convention, a single token has nothing before it and is not scored.
        figures[f"{name}_perplexity"] = _exp(nll / sizes[unit]) if sizes[unit] else None
    return figures | {"bits_per_byte": nll / sizes["bytes"] / math.log(2)}


def perplexity_summary(scores: Sequence[DocumentScore], settings: WindowSettings, *, seed: int) -> dict[str, Any]:
    """The figures of :func:`perplexities`, accuracies, and 95 % intervals over resampled documents.

    The interval [low, high] of a figure is under ``<name>_interval``. top_1_accuracy and top_5_accuracy are shares of
    the tokens, and None if none was scored.
    """
    figures = perplexities(scores)
    columns = [[getattr(s, name) for s in scores] for name in ("nll", "tokens", "words", "bytes", "top_1", "top_5")]
    sums = resampled_sums(columns, seed=seed)

    def interval(numerator: int, denominator: int) -> tuple[float, float]:
        return percentile_interval(ratio(sums[:, numerator], sums[:, denominator]), items=len(scores))

    summary: dict[str, Any] = {"convention": settings.convention, "stride": settings.stride}
    summary |= {name: figures[name] for name in ("documents", "nll_sum", "tokens", "words", "bytes")}
    for column, (unit, name) in enumerate(_UNITS, start=1):
        bounds = interval(0, column) if figures[unit] else (math.inf, math.inf)
        summary[f"{name}_perplexity"] = figures[f"{name}_perplexity"]
        summary[f"{name}_perplexity_interval"] = [_exp(bound) for bound in bounds]
    summary["bits_per_byte"] = figures["bits_per_byte"]
    summary["bits_per_byte_interval"] = [bound / math.log(2) for bound in interval(0, 3)]
    tokens = figures["tokens"]
    for column, name in ((4, "top_1"), (5, "top_5")):
        hits = sum(getattr(score, name) for score in scores)
        summary[f"{name}_accuracy"] = hits / tokens if tokens else None
        summary[f"{name}_accuracy_interval"] = list(interval(column, 1)) if tokens else None
    return summary


def paired_difference(
    scores_a: Sequence[DocumentScore], scores_b: Sequence[DocumentScore], seed: int
) -> dict[str, Any]:
    """The difference in bits_per_byte (b − a, negative if b is better), with a paired 95 % interval.

    Keys: documents, bits_per_byte, bits_per_byte_interval. Both must have scored the same documents in the same order.
    If the interval contains 0, these documents cannot distinguish the two.
    """
    key_a, key_b = ([(score.id, score.bytes) for score in scores] for scores in (scores_a, scores_b))
    assert scores_a, "no documents"
    assert key_a == key_b, "a paired difference takes the same documents in the same order"
    nll_a, nll_b = [score.nll for score in scores_a], [score.nll for score in scores_b]
    sizes = [score.bytes * math.log(2) for score in scores_a]
    return {
        "documents": len(scores_a),
        "bits_per_byte": math.fsum(nll_b) / math.fsum(sizes) - math.fsum(nll_a) / math.fsum(sizes),
        "bits_per_byte_interval": list(bootstrap_paired_ratio_difference(nll_a, sizes, nll_b, sizes, seed=seed)),
    }


def _exp(nats: float) -> float | None:
    """e to the ``nats``, or None beyond the largest float."""
    return math.exp(nats) if nats <= math.log(sys.float_info.max) else None
