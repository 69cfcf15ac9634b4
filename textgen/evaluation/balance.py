"""What a gain on held-out text is weighed against: contaminated documents, what it cost on other text, and how much of
the training data was trained on.

A model that has seen a held-out document in training scores better on it than on new text, so every figure is also
given without the contaminated documents. And a model that gains on the text it was trained on may lose elsewhere, so
the text of ``--retain-data`` is scored with the same convention and budget.
"""

from collections.abc import Set
from dataclasses import dataclass, replace
from typing import Any

from textgen.data.config import DataConfig
from textgen.data.corpus import Corpus
from textgen.data.document import Document
from textgen.data.mask_coverage import MaskCoverage, mask_coverage
from textgen.data.mixed_corpus import MixedCorpus
from textgen.data.overlap.contamination import Contamination
from textgen.data.overlap.contamination_cache import load_contamination
from textgen.data.readers import retained_documents
from textgen.data.sources import DataSources
from textgen.errors import UserError
from textgen.evaluation.config import EvaluationConfig
from textgen.evaluation.draw_documents import Budget, DrawnDocuments, lowest_hashes
from textgen.evaluation.exchange import on_main
from textgen.evaluation.loaded_model import LoadedModel
from textgen.evaluation.perplexity.document_sums import DocumentScore
from textgen.evaluation.perplexity.measure_perplexity import documents_fingerprint, score_pass
from textgen.evaluation.perplexity.score_cache import ScoreCache
from textgen.evaluation.perplexity.summary import paired_difference, perplexity_summary
from textgen.evaluation.perplexity.windows import WindowSettings
from textgen.redaction import redact


@dataclass(frozen=True)
class Balance:
    """What else every model of a run is measured on.

    Attributes:
        contamination: which of the held-out documents occur in the training text; None if that was not looked for.
        retained: the documents of ``--retain-data`` that are scored; None without it.
        mask: what is trained on of examples of a task; None if no example is trained on.
    """

    contamination: Contamination | None = None
    retained: DrawnDocuments | None = None
    mask: MaskCoverage | None = None


@dataclass(frozen=True)
class RetainedText:
    """One model's figures on the text of ``--retain-data``, and the document scores that they are summed from."""

    perplexity: dict[str, Any]
    scores: list[DocumentScore]


def load_balance(
    data: DataConfig,
    evaluation: EvaluationConfig,
    sources: DataSources,
    drawn: DrawnDocuments,
    corpus: Corpus | MixedCorpus | None = None,
) -> Balance:
    """Find the contaminated documents among those that are scored, and read the text to retain.

    An evaluation of ``--validation-data`` looks for them only in the ``--data`` that it names. Every process calls it;
    one computes.

    Args:
        data: names the data and the split; with numbers for settings that were auto, if there is a corpus.
        evaluation: the length of n-grams, and how much text to score.
        sources: where the data is.
        drawn: the held-out documents that are scored.
        corpus: the training documents; None if nothing is trained.

    Raises:
        UserError: the data cannot be read, or ``--retain-data`` contains no text.
    """
    contamination = None
    if corpus or not data.validation_data or data.data != DataConfig.data:  # else nobody said what was trained on
        contamination = load_contamination(data, sources, drawn.documents, evaluation.contamination_words)
    if contamination and not corpus:
        contamination = replace(contamination, training_data=redact(data.data))
    mask = mask_coverage(corpus, int(data.block_size), data.packing) if corpus else None
    return Balance(contamination, draw_retained(data, sources, evaluation.evaluation_tokens), mask)


def draw_retained(config: DataConfig, sources: DataSources, tokens: Budget) -> DrawnDocuments | None:
    """The documents of ``--retain-data`` to score, drawn as held-out ones are; None without ``--retain-data``.

    The main process reads the text, twice and one document at a time; the others get what was drawn.

    Raises:
        UserError: it cannot be read, or contains no text.
    """
    from accelerate import PartialState

    if sources.retained is None:
        return None

    def draw() -> DrawnDocuments:
        indices, size = lowest_hashes(retained_documents(config, sources), tokens)
        wanted = None if indices is None else set(indices)
        drawn: list[Document] = []
        available = 0
        for document in retained_documents(config, sources):
            if wanted is None or available in wanted:
                drawn.append(document)
            available += 1
        if not drawn:
            raise UserError(f"--retain-data {config.retain_data}: contains no text.")
        return DrawnDocuments(drawn, drawn, available, size)

    return on_main(PartialState(), draw)


def measure_retained(
    loaded: LoadedModel, drawn: DrawnDocuments, settings: WindowSettings, *, seed: int, cache: ScoreCache | None = None
) -> RetainedText:
    """Perplexity of the text of ``--retain-data``: the keys of :func:`perplexity_summary`, and what was scored.

    The same on every process. Arguments as for :func:`textgen.evaluation.perplexity.measure_perplexity.score_pass`;
    ``seed`` is that of the bootstrap.
    """
    scores = score_pass(loaded, drawn.documents, settings, cache=cache, token_sums=False).document_scores
    summary = on_main(loaded.accelerator, lambda: perplexity_summary(scores, settings, seed=seed)) | drawn.available()
    return RetainedText(summary | {"data_sha256": documents_fingerprint(drawn.documents), "model": loaded.name}, scores)


def uncontaminated_summary(
    scores: list[DocumentScore], contamination: Contamination | None, settings: WindowSettings, *, seed: int
) -> dict[str, Any]:
    """The figures without the contaminated documents, under ``uncontaminated``.

    Empty if no document is contaminated, so that they would be the same, or if all are, so that there are none.
    """
    clean = _without(scores, contamination.ids if contamination else frozenset())
    return {"uncontaminated": perplexity_summary(clean, settings, seed=seed)} if 0 < len(clean) < len(scores) else {}


def differences(
    reference: list[DocumentScore], other: list[DocumentScore], contaminated: Set[str], *, seed: int
) -> dict[str, Any]:
    """The paired difference of two models, and under ``uncontaminated`` that without the contaminated documents.

    Args:
        reference: the document scores of the first model.
        other: those of the second one, on the same documents.
        contaminated: ids of the contaminated documents.
        seed: random seed of the bootstrap.
    """
    difference = paired_difference(reference, other, seed=seed)
    clean = _without(reference, contaminated)
    if 0 < len(clean) < len(reference):
        difference["uncontaminated"] = paired_difference(clean, _without(other, contaminated), seed=seed)
    return difference


def retained_difference(reference: list[DocumentScore], other: list[DocumentScore], *, seed: int) -> dict[str, Any]:
    """The paired difference of two models on the text of ``--retain-data``.

    Raises:
        UserError: the text has changed since the first was measured.
    """
    first, second = ([(score.id, score.bytes) for score in scores] for scores in (reference, other))
    if first != second:
        raise UserError(
            "--retain-data: its text has changed since the first measurement of this run, so the two cannot be "
            "compared. Restore it, or start a new run with --resume=never."
        )
    return paired_difference(reference, other, seed=seed)


def _without(scores: list[DocumentScore], ids: Set[str]) -> list[DocumentScore]:
    return [score for score in scores if score.id not in ids]
