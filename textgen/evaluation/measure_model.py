"""Everything that is measured of one model, in one call."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from transformers import PreTrainedTokenizerBase

from textgen.data.document import Document
from textgen.evaluation.config import EvaluationConfig
from textgen.evaluation.decoding.prompts import Prompt
from textgen.evaluation.decoding.strategy_parser import parse_strategies
from textgen.evaluation.perplexity.document_sums import hardest_tokens, token_figures
from textgen.evaluation.perplexity.entropy_floor import floor_figures
from textgen.evaluation.perplexity.score_cache import Records
from textgen.evaluation.perplexity.summary import DocumentScore, resolve_stride, score, score_documents, summarise
from textgen.evaluation.quality.compare_strategies import Continuation, compare
from textgen.evaluation.quality.judge import Judge
from textgen.evaluation.quality.truncation_coverage import diagnose


@dataclass(frozen=True)
class Measurement:
    """Perplexity with the documents it is summed from; the decoding table with the continuations behind it; and what
    truncation keeps of the model's distribution."""

    perplexity: dict[str, Any]
    scores: list[DocumentScore]
    decoding: list[dict[str, Any]]
    continuations: list[Continuation]
    diagnostics: list[dict[str, Any]]


def measure_perplexity(
    accelerator: Accelerator,
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    documents: Sequence[Document],
    config: EvaluationConfig,
    *,
    context: int,
    seed: int,
) -> tuple[dict[str, Any], list[DocumentScore]]:
    """The sums and perplexities of ``perplexity.json``, and the scores of the documents; the same on every process."""
    settings: dict[str, Any] = {"convention": config.convention, "context": context, "stride": config.stride}
    scores = score_documents(accelerator, model, tokenizer, documents, **settings)
    stride = resolve_stride(**settings)
    return summarise(scores, convention=config.convention, stride=stride, seed=seed), scores


def measure_tokens(
    accelerator: Accelerator,
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    documents: Sequence[Document],
    config: EvaluationConfig,
    *,
    context: int,
    seed: int,
    records: Path | None = None,
) -> tuple[dict[str, Any], list[DocumentScore]]:
    """As :func:`measure_perplexity`, and what else the same pass tells: loss by position, calibration, hardest tokens.

    What is done is written to the directory ``records``, and taken from there when a killed measurement is repeated.
    """
    settings: dict[str, Any] = {"convention": config.convention, "context": context, "stride": config.stride}
    kept = Records(records, accelerator.process_index) if records else None
    scored = score(accelerator, model, tokenizer, documents, **settings, records=kept)
    stride = resolve_stride(**settings)
    figures = summarise(scored.documents, convention=config.convention, stride=stride, seed=seed)
    figures |= token_figures(scored.tallies, seed=seed)
    figures |= {"hardest_tokens": hardest_tokens(scored.passages, scored.scores, documents, tokenizer)}
    return figures, scored.documents


def measure(
    accelerator: Accelerator,
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    documents: Sequence[Document],
    prompts: Sequence[Prompt],
    config: EvaluationConfig,
    *,
    context: int,
    seed: int,
    name: str,
    amateur: Any = None,
    judge: Judge | None = None,
    progress: Callable[[str], None] | None = None,
    records: Path | None = None,
) -> Measurement:
    """Measure one model.

    Args:
        accelerator: shares the work out over its processes; the result is the same on each.
        model: unwrapped, full or with adapters.
        tokenizer: of the model.
        documents: whose perplexity is measured.
        prompts: which every strategy continues; none with ``skip_decoding``.
        config: what to measure.
        context: tokens that the model can see.
        seed: of the intervals and of sampling.
        name: what the result calls the model.
        judge: scores the continuations a second time.
        amateur: the weaker model of ``config.amateur``, loaded, if there is one.
        progress: told what is being done.
        records: directory for the scores as they are made, from which a killed measurement goes on.
    """
    say = progress or (lambda _: None)
    say(f"perplexity of {name} on {len(documents)} documents")
    perplexity, scores = measure_tokens(
        accelerator, model, tokenizer, documents, config, context=context, seed=seed, records=records
    )
    perplexity |= {"data_sha256": documents_fingerprint(documents), "model": name}
    perplexity |= floor_figures(documents, scores, convention=config.convention, seed=seed)
    if config.skip_decoding:
        return Measurement(perplexity, scores, [], [], [])
    strategies = parse_strategies(config.strategies, amateur=amateur is not None)
    say(f"what each strategy keeps of the model's distribution, over {len(prompts)} human continuations")
    diagnostics = diagnose(accelerator, model, prompts, strategies, seed=seed)
    rows, continuations = compare(
        accelerator,
        model,
        tokenizer,
        prompts,
        strategies,
        max_new_tokens=config.max_new_tokens,
        samples=config.samples,
        seed=seed,
        interval_width=config.interval_width,
        amateur=amateur,
        judge=judge,
        progress=say,
    )
    return Measurement(perplexity, scores, rows, continuations, diagnostics)


def documents_fingerprint(documents: Sequence[Document]) -> str:
    """SHA-256 of the documents that were scored, ids and texts."""
    return hashlib.sha256(json.dumps([(d.id, d.text) for d in documents]).encode()).hexdigest()
