"""How far a model is from the best that there could be, on documents of a source whose entropy is known."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from textgen.data.document import Document
from textgen.data.markov import MarkovSource, is_markov
from textgen.evaluation.perplexity.summary import DocumentScore, paired_difference, summarise

# Of the figures of `summarise`, those that a source without tokens of its own has.
FIGURES = ("token_perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte")
KEYS = ("documents", "nll_sum", "tokens", "words", "bytes", *FIGURES, *(f"{name}_interval" for name in FIGURES))


def floor_figures(
    documents: Sequence[Document], scores: Sequence[DocumentScore], *, convention: str, seed: int
) -> dict[str, Any]:
    """What the source itself would have scored on these documents, and the model's excess over that.

    Keys: ``source``, with ``KEYS`` of ``summarise`` for the source's own likelihoods (the ``tokens`` are the model's),
    its ``name``, its ``entropy_rate`` in bits per byte, and ``expected_bits_per_byte``, which is the entropy of
    documents of these lengths and counts how they begin; ``excess_bits_per_byte`` with its ``_interval``, paired by
    document. The expected excess is the model's Kullback-Leibler divergence from the source: never below 0.

    Empty where the source is not known; and for the strided convention, which scores separators that are no part of any
    document. ``scores`` are the model's, in the order of the documents.
    """
    names = {document.source for document in documents}
    if convention != "rolling" or len(names) != 1 or not is_markov(name := names.pop()):
        return {}
    source = MarkovSource.parse(name)
    own = source_scores(source, documents, scores)
    expected = sum(source.expected_nll(score.bytes) for score in own)
    figures = summarise(own, convention=convention, stride=None, seed=seed)
    excess = paired_difference(own, scores, seed=seed)
    return {
        "source": {
            "name": name,
            "entropy_rate": source.entropy_rate,
            "expected_bits_per_byte": expected / figures["bytes"] / math.log(2),
            **{key: figures[key] for key in KEYS},
        },
        "excess_bits_per_byte": excess["bits_per_byte"],
        "excess_bits_per_byte_interval": excess["bits_per_byte_interval"],
    }


def source_scores(
    source: MarkovSource, documents: Sequence[Document], scores: Sequence[DocumentScore]
) -> list[DocumentScore]:
    """The documents' scores with the source's own nll in place of the model's."""
    return [replace(score, nll=source.nll(document.text)) for document, score in zip(documents, scores, strict=True)]
