"""Perplexities from per-document sums: the four usual metrics, their confidence intervals, and paired differences."""

import math
import sys
from collections.abc import Sequence
from typing import Any

from textgen.evaluation.perplexity.document_sums import DocumentScore
from textgen.evaluation.perplexity.windows import WindowSettings
from textgen.evaluation.uncertainty.bootstrap import (
    as_json,
    bootstrap_paired_ratio_difference,
    percentile_interval,
    ratio,
    resampled_sums,
)
from textgen.evaluation.uncertainty.rates import rate_interval

_UNITS = {"tokens": "token", "words": "word", "bytes": "byte"}


def perplexities(scores: Sequence[DocumentScore]) -> dict[str, Any]:
    """The sums over the documents and the four metrics that follow from them, without intervals.

    token_perplexity = exp(Σ nll / Σ tokens), word_perplexity and byte_perplexity likewise, and bits_per_byte = Σ nll /
    (Σ bytes · ln 2). Only the last three can compare models with different tokenizers. JSON has no infinity, so a
    perplexity beyond the largest float (an nll above 709 nats per unit) is None, as is token_perplexity if no token was
    scored.
    """
    assert scores, "no documents"
    nll = math.fsum(score.nll for score in scores)
    sizes = {unit: sum(getattr(score, unit) for score in scores) for unit in _UNITS}
    metrics: dict[str, Any] = {"documents": len(scores), "nll_sum": nll, **sizes}
    for unit, name in _UNITS.items():
        # With the strided convention, a text of a single token has no scored token.
        metrics[f"{name}_perplexity"] = _exp(nll / sizes[unit]) if sizes[unit] else None
    return metrics | {"bits_per_byte": nll / sizes["bytes"] / math.log(2)}


def perplexity_summary(scores: Sequence[DocumentScore], settings: WindowSettings, *, seed: int) -> dict[str, Any]:
    """The metrics of :func:`perplexities`, accuracies, and 95 % confidence intervals over documents.

    The interval [low, high] of a metric is under ``<name>_interval``: by the bootstrap, and None for one document; for
    the accuracies by ``rates.py``. top_1_accuracy and top_5_accuracy are shares of the scored tokens, and None if there
    are none.
    """
    metrics = perplexities(scores)
    sums = resampled_sums([[getattr(s, name) for s in scores] for name in ("nll", *_UNITS)], seed=seed)
    nats_per_unit = {
        unit: percentile_interval(ratio(sums[:, 0], sums[:, column]), items=len(scores))
        for column, unit in enumerate(_UNITS, start=1)
    }
    summary: dict[str, Any] = {"convention": settings.convention, "stride": settings.stride}
    summary |= {name: metrics[name] for name in ("documents", "nll_sum", "tokens", "words", "bytes")}
    for unit, name in _UNITS.items():
        bounds = as_json(nats_per_unit[unit]) if metrics[unit] else None
        summary[f"{name}_perplexity"] = metrics[f"{name}_perplexity"]
        summary[f"{name}_perplexity_interval"] = bounds and [_exp(bound) for bound in bounds]
    bits = as_json(nats_per_unit["bytes"])
    summary["bits_per_byte"] = metrics["bits_per_byte"]
    summary["bits_per_byte_interval"] = bits and [bound / math.log(2) for bound in bits]
    tokens = [score.tokens for score in scores]
    for name in ("top_1", "top_5"):
        hits = [getattr(score, name) for score in scores]
        summary[f"{name}_accuracy"] = sum(hits) / sum(tokens) if sum(tokens) else None
        summary[f"{name}_accuracy_interval"] = list(rate_interval(hits, tokens)) if sum(tokens) else None
    return summary


def paired_difference(
    scores_a: Sequence[DocumentScore], scores_b: Sequence[DocumentScore], seed: int
) -> dict[str, Any]:
    """The difference in bits_per_byte (b − a, negative if b is better), with a paired 95 % interval.

    Keys: documents, bits_per_byte, bits_per_byte_interval. Both must be scores of the same documents in the same order.
    If the interval contains 0, these documents do not distinguish the two models. One document has no interval: None.
    """
    key_a, key_b = ([(score.id, score.bytes) for score in scores] for scores in (scores_a, scores_b))
    assert scores_a, "no documents"
    assert key_a == key_b, "a paired difference needs the same documents in the same order"
    nll_a, nll_b = [score.nll for score in scores_a], [score.nll for score in scores_b]
    sizes = [score.bytes * math.log(2) for score in scores_a]
    return {
        "documents": len(scores_a),
        "bits_per_byte": math.fsum(nll_b) / math.fsum(sizes) - math.fsum(nll_a) / math.fsum(sizes),
        "bits_per_byte_interval": as_json(bootstrap_paired_ratio_difference(nll_a, sizes, nll_b, sizes, seed=seed)),
    }


def _exp(nats: float) -> float | None:
    """exp(nats), or None beyond the largest float."""
    return math.exp(nats) if nats <= math.log(sys.float_info.max) else None
