"""Perplexity of documents: one scoring pass, and every metric computed from it.

Results depend only on the documents, the model, the convention, the context and the stride. Batch size, padding and the
number of processes change them by no more than the rounding of single-precision arithmetic.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from textgen.data.document import Document
from textgen.errors import UserError
from textgen.evaluation.loaded_model import LoadedModel
from textgen.evaluation.perplexity.document_sums import DocumentScore, TokenSums, WindowScore, add_up
from textgen.evaluation.perplexity.entropy_floor import floor_metrics
from textgen.evaluation.perplexity.score_cache import ScoreCache
from textgen.evaluation.perplexity.score_windows import score_windows
from textgen.evaluation.perplexity.summary import perplexity_summary
from textgen.evaluation.perplexity.token_report import hardest_tokens, token_metrics
from textgen.evaluation.perplexity.windows import TokenWindow, WindowSettings

BATCH_TOKENS = 4096


@dataclass(frozen=True)
class PerplexityPass:
    """The results of one scoring pass: each document's score and sums, and each window with its score."""

    document_scores: list[DocumentScore]
    sums: list[TokenSums]
    windows: list[TokenWindow]
    window_scores: list[WindowScore]


def measure_perplexity(
    loaded: LoadedModel,
    documents: Sequence[Document],
    settings: WindowSettings,
    *,
    seed: int,
    cache: ScoreCache | None = None,
) -> tuple[dict[str, Any], list[DocumentScore]]:
    """An entry of ``perplexity.json``, and the documents' scores; the same on every process.

    Arguments are those of :func:`score_pass`; ``seed`` is that of the bootstrap.
    """
    scored = score_pass(loaded, documents, settings, cache=cache)
    metrics = perplexity_summary(scored.document_scores, settings, seed=seed)
    metrics |= token_metrics(scored.sums, seed=seed)
    metrics |= {"hardest_tokens": hardest_tokens(scored.windows, scored.window_scores, documents, loaded.tokenizer)}
    metrics |= {"data_sha256": documents_fingerprint(documents), "model": loaded.name}
    return metrics | floor_metrics(documents, scored.document_scores, settings, seed=seed), scored.document_scores


def documents_fingerprint(documents: Sequence[Document]) -> str:
    """SHA-256 of the documents' ids and texts."""
    return hashlib.sha256(json.dumps([(d.id, d.text) for d in documents]).encode()).hexdigest()


def score_documents(
    loaded: LoadedModel, documents: Sequence[Document], settings: WindowSettings, *, batch_tokens: int = BATCH_TOKENS
) -> list[DocumentScore]:
    """Each document's score, in the order of the documents; the same on every process. See :func:`score_pass`."""
    return score_pass(loaded, documents, settings, batch_tokens=batch_tokens).document_scores


def score_pass(
    loaded: LoadedModel,
    documents: Sequence[Document],
    settings: WindowSettings,
    *,
    batch_tokens: int = BATCH_TOKENS,
    cache: ScoreCache | None = None,
) -> PerplexityPass:
    """Score every document.

    Log-probabilities are float32 whatever the model's dtype, and sums are float64. Text is tokenized whole, without the
    special tokens that some tokenizers add. With the strided convention, the very first token is not scored, since
    nothing precedes it.

    Args:
        loaded: the model, prepared by Accelerate or not; it is evaluated without dropout.
        documents: the documents to score.
        settings: convention, context and stride.
        batch_tokens: maximum tokens per batch, including padding; a single window may be longer.
        cache: window scores of an interrupted pass with the same model and settings; new ones are added.

    Raises:
        UserError: the tokenizer lacks what the convention needs, or the model's log-likelihoods are not finite.
    """
    windows = settings.cut(loaded.tokenizer, documents)
    scores = score_windows(loaded, windows, documents, settings, batch_tokens=batch_tokens, cache=cache)
    parts: list[list[TokenSums]] = [[] for _ in documents]
    for window, score in zip(windows, scores, strict=True):
        for owner, sums in zip(sorted(set(window.owners.tolist())), score.sums, strict=True):
            parts[owner].append(sums)
    totals = [add_up(part) for part in parts]
    for document, total in zip(documents, totals, strict=True):  # every process has all sums, so all of them raise
        if not math.isfinite(total.nll):
            raise UserError(
                f"The negative log-likelihood of document {document.id!r} is {total.nll}: the model's logits are not "
                "finite. Load it in float32, or check its weights for NaN."
            )
    found = [
        DocumentScore(
            document.id, total.nll, total.tokens, document.words, document.bytes, top_1=total.top_1, top_5=total.top_5
        )
        for document, total in zip(documents, totals, strict=True)
    ]
    return PerplexityPass(found, totals, windows, scores)
