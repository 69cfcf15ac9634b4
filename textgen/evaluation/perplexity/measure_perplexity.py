"""Perplexity of documents: one scoring pass, and every metric computed from it.

Results depend only on the documents, the model, the convention, the context and the stride. Batch size, padding and the
number of processes change them by no more than the rounding of single-precision arithmetic.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from textgen.data.document import Document
from textgen.data.tokenization import unknown_id
from textgen.errors import UserError
from textgen.evaluation.exchange import gather, on_main
from textgen.evaluation.loaded_model import LoadedModel
from textgen.evaluation.perplexity.document_sums import (
    HARDEST,
    DocumentScore,
    TokenSums,
    WindowScore,
    add_up,
    exact_sums,
    without_bins,
)
from textgen.evaluation.perplexity.entropy_floor import floor_metrics
from textgen.evaluation.perplexity.score_cache import ScoreCache
from textgen.evaluation.perplexity.score_windows import score_windows
from textgen.evaluation.perplexity.summary import perplexity_summary
from textgen.evaluation.perplexity.token_report import (
    HardestRow,
    hardest_first,
    hardest_rows,
    hardest_tokens,
    token_metrics,
)
from textgen.evaluation.perplexity.token_windows import TokenWindows
from textgen.evaluation.perplexity.windows import WindowSettings
from textgen.progress import progress

BATCH_TOKENS = 4096


@dataclass(frozen=True)
class PerplexityPass:
    """The results of one scoring pass.

    Attributes:
        document_scores: each document's score, the same on every process.
        windows: the windows that were scored.
        sums: each document's sums; on the main process only, and empty elsewhere.
        hardest: the hardest tokens (:func:`hardest_rows`), on the main process only as well.
    """

    document_scores: list[DocumentScore]
    windows: TokenWindows
    sums: list[TokenSums]
    hardest: list[HardestRow]


def measure_perplexity(
    loaded: LoadedModel,
    documents: Sequence[Document],
    settings: WindowSettings,
    *,
    seed: int,
    cache: ScoreCache | None = None,
) -> tuple[dict[str, Any], list[DocumentScore]]:
    """An entry of ``perplexity.json``, and the documents' scores; the same on every process.

    ``unknown_tokens`` of the scored tokens stand for text that the tokenizer does not know. They are cheap to predict,
    whatever the text was, so with many of them the figures say little.

    Arguments are those of :func:`score_pass`; ``seed`` is that of the bootstrap.
    """
    scored = score_pass(loaded, documents, settings, cache=cache)
    unknown = unknown_id(loaded.tokenizer)
    unknown_tokens = 0 if unknown is None else scored.windows.occurrences(loaded.accelerator, unknown)

    def figures() -> dict[str, Any]:
        metrics = perplexity_summary(scored.document_scores, settings, seed=seed)
        metrics |= {"unknown_tokens": unknown_tokens} | token_metrics(scored.sums, seed=seed)
        metrics |= {"hardest_tokens": hardest_tokens(scored.windows, scored.hardest, documents, loaded.tokenizer)}
        metrics |= {"data_sha256": documents_fingerprint(documents), "model": loaded.name}
        return metrics | floor_metrics(documents, scored.document_scores, settings, seed=seed)

    with progress("computing intervals"):
        return on_main(loaded.accelerator, figures), scored.document_scores


def documents_fingerprint(documents: Iterable[Document]) -> str:
    """SHA-256 of the documents' ids and texts, as one JSON list."""
    digest = hashlib.sha256(b"[")
    for number, document in enumerate(documents):
        digest.update((", " if number else "").encode() + json.dumps([document.id, document.text]).encode())
    digest.update(b"]")
    return digest.hexdigest()


def score_documents(
    loaded: LoadedModel, documents: Sequence[Document], settings: WindowSettings, *, batch_tokens: int = BATCH_TOKENS
) -> list[DocumentScore]:
    """Each document's score, in the order of the documents; the same on every process. See :func:`score_pass`."""
    return score_pass(loaded, documents, settings, batch_tokens=batch_tokens, token_sums=False).document_scores


def score_pass(
    loaded: LoadedModel,
    documents: Sequence[Document],
    settings: WindowSettings,
    *,
    batch_tokens: int = BATCH_TOKENS,
    cache: ScoreCache | None = None,
    token_sums: bool = True,
) -> PerplexityPass:
    """Score every document.

    Log-probabilities are float32 whatever the model's dtype, and sums are float64. Text is tokenized whole, without the
    special tokens that some tokenizers add. With the strided convention, the very first token is not scored, since
    nothing precedes it. Processes send the sums of documents to the main one, not the scores of windows.

    Args:
        loaded: the model, prepared by Accelerate or not; it is evaluated without dropout.
        documents: the documents to score.
        settings: convention, context and stride.
        batch_tokens: maximum tokens per batch, including padding; a single window may be longer.
        cache: window scores of an interrupted pass with the same model and settings; new ones are added.
        token_sums: also collect what a token report needs: the sums by position and confidence, and the hardest tokens.

    Raises:
        UserError: the tokenizer lacks what the convention needs, or the model's log-likelihoods are not finite.
    """
    windows = settings.cut(loaded.tokenizer, documents, loaded.accelerator)
    scores = score_windows(loaded, windows, documents, settings, batch_tokens=batch_tokens, cache=cache)
    mine = _document_parts(windows, scores, token_sums)
    gathered = gather(loaded.accelerator, (mine, hardest_rows(scores) if token_sums else []))
    sums: list[TokenSums] = []

    def combine() -> list[DocumentScore]:
        assert gathered is not None
        parts: list[list[TokenSums]] = [[] for _ in documents]
        for sent, _ in gathered:
            for number, some in sent.items():
                parts[number] += some
        sums.extend(map(add_up, parts))
        targets = sum(window.targets for _, window in windows.spans)
        assert sum(total.tokens for total in sums) == targets, "windows were lost or scored twice"
        return [_document_score(document, total) for document, total in zip(documents, sums, strict=True)]

    document_scores = on_main(loaded.accelerator, combine)
    hardest = sorted((row for _, rows in gathered or [] for row in rows), key=hardest_first)[:HARDEST]
    return PerplexityPass(document_scores, windows, sums, hardest)


def _document_parts(
    windows: TokenWindows, scores: Mapping[int, WindowScore], token_sums: bool
) -> dict[int, list[TokenSums]]:
    """What this process scored of each document, by its index."""
    parts: dict[int, list[TokenSums]] = {}
    for index, score in scores.items():
        for number, sums in zip(windows.documents(index), score.sums, strict=True):
            parts.setdefault(number, []).append(sums if token_sums else without_bins(sums))
    return {number: exact_sums(some) for number, some in parts.items()}


def _document_score(document: Document, total: TokenSums) -> DocumentScore:
    if not math.isfinite(total.nll):
        raise UserError(
            f"The negative log-likelihood of document {document.id!r} is {total.nll}: the model's logits are not "
            "finite. Load it in float32, or check its weights for NaN."
        )
    return DocumentScore(
        document.id, total.nll, total.tokens, document.words, document.bytes, top_1=total.top_1, top_5=total.top_5
    )
