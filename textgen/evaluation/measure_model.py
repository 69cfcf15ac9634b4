"""Measure one model: perplexity, decoding strategies and truncation diagnostics in one call."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from textgen.data.mask_coverage import MaskCoverage
from textgen.data.overlap.contamination import Contamination
from textgen.errors import Diverged, UserError
from textgen.evaluation.balance import Balance, RetainedText, measure_retained, uncontaminated_summary
from textgen.evaluation.config import EvaluationConfig
from textgen.evaluation.decoding.generate import Continuation
from textgen.evaluation.decoding.prefix.hidden_states import check_hidden_states
from textgen.evaluation.decoding.prompts import Prompt, select_prompts
from textgen.evaluation.decoding.strategy_parser import parse_strategies
from textgen.evaluation.draw_documents import DrawnDocuments
from textgen.evaluation.exchange import on_main
from textgen.evaluation.loaded_model import LoadedModel
from textgen.evaluation.perplexity.document_sums import DocumentScore
from textgen.evaluation.perplexity.measure_perplexity import measure_perplexity, score_documents
from textgen.evaluation.perplexity.score_cache import ScoreCache
from textgen.evaluation.perplexity.summary import perplexities
from textgen.evaluation.perplexity.windows import WindowSettings
from textgen.evaluation.quality.compare_strategies import compare_strategies
from textgen.evaluation.quality.truncation_coverage import truncation_coverage
from textgen.model.locate import FoundModel


@dataclass(frozen=True)
class Measurement:
    """All results for one model.

    Attributes:
        perplexity: an entry of ``perplexity.json``.
        scores: the document scores that it is summed from.
        decoding: an entry of ``decoding.json``; this and the following are empty if decoding was skipped.
        continuations: every continuation that it was computed from.
        diagnostics: an entry of ``diagnostics.json``: what each truncation keeps.
        retained: the figures on the text of ``--retain-data``, if given.
        contamination: the contents of ``contamination.json``, if contaminated documents were looked for.
        mask: what is trained on of examples of a task, if there are any, for ``balance.json``.
        recommendation: an entry of ``recommendation.json``; empty if decoding was skipped.
    """

    perplexity: dict[str, Any]
    scores: list[DocumentScore]
    decoding: list[dict[str, Any]]
    continuations: list[Continuation]
    diagnostics: list[dict[str, Any]]
    retained: RetainedText | None = None
    contamination: Contamination | None = None
    mask: MaskCoverage | None = None
    recommendation: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """The evaluation applied to every model of a run: same documents, settings, seed, judge and amateur.

    Attributes:
        config: the evaluation settings.
        drawn: the held-out documents to score; prompts are the beginnings of some of them.
        seed: random seed of sampling and of the bootstrap.
        judge: the model of ``--judge``; loaded for each measurement, so that it takes no memory during training.
        amateur: the model of ``--amateur``; loaded for each measurement as well.
        score_cache: directory for window scores, from which an interrupted measurement resumes.
        balance: contaminated documents, and other text to score.
    """

    config: EvaluationConfig
    drawn: DrawnDocuments
    seed: int
    judge: FoundModel | None = None
    amateur: FoundModel | None = None
    score_cache: Path | None = None
    balance: Balance = field(default_factory=Balance)

    def measure(self, loaded: LoadedModel, echo: Callable[[str], None] = lambda line: None) -> Measurement:
        """Measure one model; the same result on every process.

        Args:
            loaded: the model; results contain its name.
            echo: called with each line of progress.

        Raises:
            UserError: no document is long enough for a prompt, the model has no hidden states that a strategy needs,
                or its log-likelihoods are not finite.
        """
        config, accelerator = self.config, loaded.accelerator
        strategies, prompts = [], []
        if not config.skip_decoding:
            strategies = parse_strategies(config.strategies, amateur=self.amateur is not None)
            check_hidden_states(loaded.model, strategies)
            prompts = self._prompts(loaded)
        judge, amateur = (
            LoadedModel.load(accelerator, found, seed=self.seed) if found else None
            for found in (self.judge, self.amateur)
        )
        echo(f"measuring the perplexity of {loaded.name} on {self.drawn}")
        cache = ScoreCache(self.score_cache, accelerator.process_index) if self.score_cache else None
        settings = WindowSettings.resolve(config.convention, loaded.context, config.stride)
        perplexity, scores = measure_perplexity(loaded, self.drawn.documents, settings, seed=self.seed, cache=cache)
        if unknown := perplexity["unknown_tokens"]:
            echo(
                f"warning: {unknown / perplexity['tokens']:.1%} of the scored tokens are unknown to the tokenizer; the "
                "figures do not count what they stand for"
            )
        contamination, mask, retained = self.balance.contamination, self.balance.mask, None
        perplexity |= self.drawn.available()
        perplexity |= on_main(
            accelerator, lambda: uncontaminated_summary(scores, contamination, settings, seed=self.seed)
        )
        if self.balance.retained:
            echo(f"measuring the perplexity of {loaded.name} on {self.balance.retained} to retain")
            retained = measure_retained(loaded, self.balance.retained, settings, seed=self.seed, cache=cache)
        if config.skip_decoding:
            return Measurement(perplexity, scores, [], [], [], retained, contamination, mask)
        echo(f"truncation diagnostics on {len(prompts)} reference continuations")
        diagnostics = truncation_coverage(loaded, prompts, strategies, seed=self.seed)
        rows, continuations, recommendation = compare_strategies(
            loaded,
            prompts,
            strategies,
            config,
            seed=self.seed,
            amateur=amateur.model if amateur else None,
            judge=judge,
            echo=echo,
        )
        return Measurement(
            perplexity, scores, rows, continuations, diagnostics, retained, contamination, mask, recommendation
        )

    def held_out_metrics(self, loaded: LoadedModel) -> dict[str, float]:
        """Metrics to log during training: eval/loss (nats per token), eval/token_perplexity, eval/bits_per_byte.

        Same convention as :meth:`measure`, on part of its documents and without intervals; the same on every process.

        Raises:
            Diverged: they are not finite.
        """
        settings = WindowSettings.resolve(self.config.convention, loaded.context, self.config.stride)
        try:
            metrics = perplexities(score_documents(loaded, self.drawn.training_documents, settings))
        except UserError as error:  # not about text or tokenizer, with which the untrained model was measured
            raise Diverged(f"the evaluation during training: {error} Lower --learning-rate.") from None
        row = {"eval/loss": metrics["nll_sum"] / metrics["tokens"]}
        return row | {f"eval/{name}": metrics[name] for name in ("token_perplexity", "bits_per_byte")}

    def _prompts(self, loaded: LoadedModel) -> list[Prompt]:
        return select_prompts(
            self.drawn.documents,
            loaded.tokenizer,
            prompts=self.config.prompts,
            prompt_tokens=self.config.prompt_tokens,
            max_new_tokens=self.config.max_new_tokens,
            context=loaded.context,
        )
