"""The entropy floor of synthetic documents: how far a model is from the best possible bits per byte."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from textgen.data.document import Document
from textgen.data.sources.markov import MarkovSource, is_markov
from textgen.evaluation.perplexity.document_sums import DocumentScore
from textgen.evaluation.perplexity.summary import paired_difference, perplexity_summary
from textgen.evaluation.perplexity.windows import WindowSettings

# The metrics that a source has; no accuracies, since it has no tokens. Its token_perplexity is per token of the model.
METRICS = ("token_perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte")
KEYS = ("documents", "nll_sum", "tokens", "words", "bytes", *METRICS, *(f"{name}_interval" for name in METRICS))


def floor_metrics(
    documents: Sequence[Document], scores: Sequence[DocumentScore], settings: WindowSettings, *, seed: int
) -> dict[str, Any]:
    """The source's own score on these documents, and the model's excess over it.

    Keys: ``source``, with :data:`KEYS` of the perplexity summary for the source's own likelihoods (the ``tokens`` are
    the model's), its ``name``, its ``entropy_rate`` in bits per byte, and ``expected_bits_per_byte``, the entropy of
    documents of these lengths including their first characters; ``excess_bits_per_byte`` with its ``_interval``, paired
    by document. The expected excess is the model's Kullback-Leibler divergence from the source, which is never below 0.

    Empty if the documents are not synthetic, and for the strided convention, which scores separators that belong to no
    document.

    Args:
        documents: the scored documents.
        scores: the model's scores, in the order of the documents.
        settings: the perplexity convention.
        seed: random seed of the bootstrap.
    """
    names = {document.source for document in documents}
    if settings.convention != "rolling" or len(names) != 1 or not is_markov(name := names.pop()):
        return {}
    source = MarkovSource.parse(name)
    own = source_scores(source, documents, scores)
    expected = sum(source.expected_nll(score.bytes) for score in own)
    metrics = perplexity_summary(own, settings, seed=seed)
    excess = paired_difference(own, scores, seed=seed)
    return {
        "source": {
            "name": name,
            "entropy_rate": source.entropy_rate,
            "expected_bits_per_byte": expected / metrics["bytes"] / math.log(2),
            **{key: metrics[key] for key in KEYS},
        },
        "excess_bits_per_byte": excess["bits_per_byte"],
        "excess_bits_per_byte_interval": excess["bits_per_byte_interval"],
    }


def source_scores(
    source: MarkovSource, documents: Sequence[Document], scores: Sequence[DocumentScore]
) -> list[DocumentScore]:
    """The documents' scores with the source's nll in place of the model's."""
    return [replace(score, nll=source.nll(document.text)) for document, score in zip(documents, scores, strict=True)]
