"""Perplexity that can be compared: nats per document, exact counts, and the four usual figures with their uncertainty.

Two conventions, because the one word has meant both:

``rolling``
    Each document by itself, after a prefix token, in disjoint windows: lm-evaluation-harness's
    ``loglikelihood_rolling``.
``strided``
    All documents as one text, in windows that overlap: the transformers guide "Perplexity of fixed-length models".

Results depend on the documents, the model, the convention, the context and the stride, and on nothing else: not on the
batch size, the padding or the number of processes, beyond the rounding of single-precision arithmetic.
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from transformers import PreTrainedTokenizerBase

from textgen.data.document import Document
from textgen.errors import UserError
from textgen.evaluation.perplexity.document_sums import PassageScore, Tally, add_up
from textgen.evaluation.perplexity.score_cache import Records
from textgen.evaluation.perplexity.score_windows import score_passages
from textgen.evaluation.perplexity.windows import Passage, rolling_passages, strided_passages
from textgen.evaluation.uncertainty.bootstrap import (
    bootstrap_paired_ratio_difference,
    percentile_interval,
    ratio,
    resampled_sums,
)


@dataclass(frozen=True)
class DocumentScore:
    """What every figure is summed from: a document's negative log-likelihood in nats, and its size in three units.

    ``top_1`` and ``top_5`` are the numbers of its tokens that the model took for the likeliest, or held among the five
    likeliest.
    """

    id: str
    nll: float
    tokens: int
    words: int
    bytes: int
    top_1: int = 0
    top_5: int = 0


@dataclass(frozen=True)
class Scored:
    """All that one pass over the documents found out: of each document, and of each window that was read."""

    documents: list[DocumentScore]
    tallies: list[Tally]
    passages: list[Passage]
    scores: list[PassageScore]


def resolve_stride(convention: str, stride: int | None, context: int) -> int | None:
    """The stride in force: None for rolling; for strided the one given, else half of the context.

    Raises UserError for an unknown convention, a stride outside 1 … context, and a stride that would have no effect.
    """
    if convention == "rolling":
        if stride is not None:
            raise UserError(
                f"--stride {stride}: --convention rolling has none. Leave it out, or say --convention strided."
            )
        return None
    if convention != "strided":
        raise UserError(f"--convention {convention!r}: there is no such convention; choose rolling or strided.")
    if stride is None:
        return max(1, context // 2)
    if not 1 <= stride <= context:
        raise UserError(
            f"--stride {stride}: give 1 to {context}, which is the number of tokens that the model reads at once."
        )
    return stride


def score_documents(
    accelerator: Accelerator,
    model: torch.nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    documents: Sequence[Document],
    *,
    convention: str,
    context: int,
    stride: int | None = None,
    batch_tokens: int = 4096,
) -> list[DocumentScore]:
    """The documents' scores of :func:`score`, which says more."""
    settings: dict[str, Any] = {"convention": convention, "context": context, "stride": stride}
    return score(accelerator, model, tokenizer, documents, **settings, batch_tokens=batch_tokens).documents


def score(
    accelerator: Accelerator,
    model: torch.nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    documents: Sequence[Document],
    *,
    convention: str,
    context: int,
    stride: int | None = None,
    batch_tokens: int = 4096,
    records: Records | None = None,
) -> Scored:
    """Each document's negative log-likelihood: the same list, in the order of the documents, on every process.

    The model, prepared or not, must be on ``accelerator.device`` and read ``context`` tokens at once; it is evaluated
    without dropout and left in the mode it was in. A batch holds up to ``batch_tokens`` tokens, or one window. Log
    probabilities are float32 whatever the model's dtype, and sums are float64. Text is tokenised whole and without
    the special tokens that some tokenizers add by themselves. For strided, a token counts towards the document in
    which it begins, a separator towards the document before it, and the first token of all, which nothing precedes,
    is not scored. What ``records`` hold of exactly this evaluation is not computed again.

    Raises UserError for a setting that cannot be (see ``resolve_stride``), a tokenizer that lacks what the convention
    needs, and a model whose likelihoods are not finite.
    """
    stride = resolve_stride(convention, stride, context)
    if stride is None:
        passages = rolling_passages(tokenizer, documents, context)
    else:
        passages = strided_passages(tokenizer, documents, context, stride)
    scores = score_passages(
        accelerator,
        model,
        passages,
        documents,
        batch_tokens=batch_tokens,
        records=records,
        settings={"convention": convention, "context": context, "stride": stride},
    )
    parts: list[list[Tally]] = [[] for _ in documents]
    for passage, result in zip(passages, scores, strict=True):
        for owner, tally in zip(sorted(set(passage.owners.tolist())), result.tallies, strict=True):
            parts[owner].append(tally)
    tallies = [add_up(part) for part in parts]
    for document, tally in zip(documents, tallies, strict=True):  # on every process alike: all of them hold all sums
        if not math.isfinite(tally.nll):
            raise UserError(
                f"The negative log-likelihood of document {document.id!r} is {tally.nll}, so that there is no "
                "perplexity: the model's logits are not finite. Load it in float32, or look for NaN in its weights."
            )
    found = [
        DocumentScore(
            document.id, tally.nll, tally.tokens, document.words, document.bytes, top_1=tally.top_1, top_5=tally.top_5
        )
        for document, tally in zip(documents, tallies, strict=True)
    ]
    return Scored(found, tallies, passages, scores)


def summarise(scores: Sequence[DocumentScore], *, convention: str, stride: int | None, seed: int) -> dict[str, Any]:
    """The sums over the documents, the four figures made of them, and their 95 % intervals over resampled documents.

    token_perplexity = exp(Σ nll / Σ tokens), word_perplexity and byte_perplexity likewise, bits_per_byte = Σ nll / (Σ
    bytes · ln 2); under ``<name>_interval`` stands [low, high]. top_1_accuracy and top_5_accuracy are shares of the
    tokens, and None where none was scored. ``stride`` is the one in force, None for rolling.
    Only word_perplexity, byte_perplexity and bits_per_byte compare models with different tokenizers. JSON has no
    infinity: a perplexity beyond the largest float (an nll of more than 709 nats a unit) is None, and bits_per_byte
    still tells it; so is token_perplexity where no token was scored.
    """
    assert scores, "no documents"
    nll = math.fsum(score.nll for score in scores)
    sizes = {unit: sum(getattr(score, unit) for score in scores) for unit in ("tokens", "words", "bytes")}
    columns = [[getattr(score, name) for score in scores] for name in ("nll", *sizes, "top_1", "top_5")]
    sums = resampled_sums(columns, seed=seed)
    intervals = {
        unit: percentile_interval(ratio(sums[:, 0], sums[:, 1 + i]), items=len(scores)) for i, unit in enumerate(sizes)
    }
    summary: dict[str, Any] = {
        "convention": convention,
        "stride": stride,
        "documents": len(scores),
        "nll_sum": nll,
        **sizes,
    }
    for unit, name in (("tokens", "token"), ("words", "word"), ("bytes", "byte")):
        # With the strided convention, a single token has nothing before it and is not scored.
        value, bounds = (nll / sizes[unit], intervals[unit]) if sizes[unit] else (math.inf, (math.inf, math.inf))
        summary[f"{name}_perplexity"] = _exp(value)
        summary[f"{name}_perplexity_interval"] = [_exp(bound) for bound in bounds]
    summary["bits_per_byte"] = nll / sizes["bytes"] / math.log(2)
    summary["bits_per_byte_interval"] = [bound / math.log(2) for bound in intervals["bytes"]]
    for column, name in ((4, "top_1"), (5, "top_5")):
        hits, tokens = sum(getattr(score, name) for score in scores), sizes["tokens"]
        summary[f"{name}_accuracy"] = hits / tokens if tokens else None
        interval = percentile_interval(ratio(sums[:, column], sums[:, 1]), items=len(scores))
        summary[f"{name}_accuracy_interval"] = list(interval) if tokens else None
    return summary


def _exp(nats: float) -> float | None:
    """e to the ``nats``, or None beyond the largest float."""
    return math.exp(nats) if nats <= math.log(sys.float_info.max) else None


def paired_difference(
    scores_a: Sequence[DocumentScore], scores_b: Sequence[DocumentScore], seed: int
) -> dict[str, Any]:
    """How much worse b is than a in bits_per_byte (b − a, negative if b is better), with a paired 95 % interval.

    Keys: documents, bits_per_byte, bits_per_byte_interval. Both must have scored the same documents in the same order.
    An interval that contains 0 means that they cannot be told apart on these documents.
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
