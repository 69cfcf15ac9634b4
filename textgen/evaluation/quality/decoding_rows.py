"""The rows of ``decoding.json``: all metrics of each strategy's continuations.

Nothing is generated here. The continuations are measured as texts, and scored by the model itself and by a judge, if
there is one.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from textgen.evaluation.config import EvaluationConfig
from textgen.evaluation.decoding.generate import StrategyOutput
from textgen.evaluation.decoding.strategies import HUMAN
from textgen.evaluation.decoding.truncation import is_truncation, truncate
from textgen.evaluation.loaded_model import LoadedModel
from textgen.evaluation.quality.human_differences import difference_columns
from textgen.evaluation.quality.judge import judge_nlls, split_ids
from textgen.evaluation.quality.mauve import MIN_TEXTS, mauve_columns, missing_mauve_columns, text_features
from textgen.evaluation.quality.teacher_forcing import Span, score_spans
from textgen.evaluation.quality.text_metrics import cluster_numbers, estimate_columns, text_estimates
from textgen.evaluation.uncertainty.estimate import Estimate, estimate_of_rate, estimate_of_ratio
from textgen.progress import progress

Estimates = dict[str, dict[str, Estimate]]
"""Strategy (or human) → metric → its estimate."""


def measure_outputs(
    loaded: LoadedModel,
    outputs: Sequence[StrategyOutput],
    config: EvaluationConfig,
    *,
    seed: int,
    judge: LoadedModel | None = None,
) -> Estimates:
    """All metrics of each output but MAUVE; arguments as for :func:`decoding_rows`. The same on every process."""
    estimates: Estimates = {}
    with progress("measuring continuations", total=len(outputs), unit="strategies") as advance:
        for output in outputs:
            estimates[output.name] = _estimates(loaded, output, config, seed, judge)
            advance(1)
    return estimates


def decoding_rows(
    loaded: LoadedModel,
    outputs: Sequence[StrategyOutput],
    estimates: Estimates,
    config: EvaluationConfig,
    *,
    seed: int,
    judge: LoadedModel | None = None,
) -> list[dict[str, Any]]:
    """One row for each output; the same on every process.

    Keys: strategy, family, settings, prompts, continuations; the metrics of ``TEXT_METRICS``; nll, in nats per token
    under the model at temperature 1; own_nll, the same under the distribution that the strategy drew from (None if that
    is not a function of the model's next-token distribution); judge_bits_per_byte, with a judge; end_of_text_rate; each
    with its ``_interval``. Then mauve (see ``mauve.py``) and the differences (see ``human_differences.py``).

    Args:
        loaded: the model that wrote the continuations.
        outputs: the continuations by each strategy and by the human authors, all for the same prompts in the same
            order.
        estimates: their metrics, from :func:`measure_outputs`.
        config: the length limit and the target interval width.
        seed: random seed of the bootstrap and of MAUVE's clustering.
        judge: a second model that scores the continuations.
    """
    samples = {output.name: len(output.prompts) / len(set(output.prompt_ids)) for output in outputs}
    differences = difference_columns(
        estimates, interval_width=config.interval_width, samples_per_prompt=samples, seed=seed
    )
    mauve = _mauve(loaded, outputs, seed, judge)
    rows = []
    for output in outputs:
        metrics: dict[str, Any] = estimate_columns(estimates[output.name])
        metrics.setdefault("own_nll", None)
        metrics.setdefault("own_nll_interval", None)
        rows.append(
            {
                "strategy": output.name,
                "family": output.strategy.family,
                "settings": dict(output.strategy.settings),
                **metrics,
                **mauve[output.name],
                **differences.get(output.name, {}),
                "prompts": len(set(output.prompt_ids)),
                "continuations": len(output.continuations),
            }
        )
    return rows


def _estimates(
    loaded: LoadedModel, output: StrategyOutput, config: EvaluationConfig, seed: int, judge: LoadedModel | None
) -> dict[str, Estimate]:
    lengths = output.token_counts
    resampling: dict[str, Any] = {"clusters": cluster_numbers(output.prompt_ids), "seed": seed}
    nlls, own = continuation_nlls(loaded, output)
    found = text_estimates(output.texts, lengths, seed, prompts=output.prompt_ids)
    found["nll"] = estimate_of_ratio(nlls, lengths, **resampling)
    if own is not None:
        found["own_nll"] = estimate_of_ratio(own, lengths, **resampling)
    if judge:
        judged = judge_nlls(judge, [prompt.text for prompt in output.prompts], output.texts)
        # bits / bytes = nats / (bytes · ln 2)
        scaled_bytes = [len(text.encode("utf-8", "replace")) * math.log(2) for text in output.texts]
        found["judge_bits_per_byte"] = estimate_of_ratio(judged, scaled_bytes, **resampling)
    # A continuation is shorter than the limit only if the text ended.
    found["end_of_text_rate"] = estimate_of_rate([float(n < config.max_new_tokens) for n in lengths], **resampling)
    return found


def continuation_nlls(loaded: LoadedModel, output: StrategyOutput) -> tuple[list[float], list[float] | None]:
    """Negative log-likelihood in nats of each continuation after its prompt, 0 for an empty one.

    Returns:
        Under the model; and under the distribution that the strategy drew from, after its temperature and truncation,
        or None if that is not a function of the model's next-token distribution. A token that was drawn counts as kept,
        even if rounding leaves it just outside of the kept set.
    """
    strategy = output.strategy if is_truncation(output.strategy) else None

    def score(log_probs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        nll = -log_probs.gather(1, targets[:, None])
        if strategy is None:
            return nll
        own, mask = truncate(strategy, log_probs)
        kept = own.masked_fill(~mask.scatter(1, targets[:, None], True), -torch.inf).log_softmax(dim=-1)
        return torch.cat([nll, -kept.gather(1, targets[:, None])], dim=1)

    pairs = zip(output.prompts, output.continuations, strict=True)
    spans = [Span(prompt.token_ids, one.token_ids) for prompt, one in pairs]
    found = score_spans(loaded, spans, score, columns=1 if strategy is None else 2)
    nlls = [math.fsum(one[:, 0]) for one in found]
    return nlls, None if strategy is None else [math.fsum(one[:, 1]) for one in found]


def _mauve(
    loaded: LoadedModel, outputs: Sequence[StrategyOutput], seed: int, judge: LoadedModel | None
) -> dict[str, dict[str, Any]]:
    """MAUVE's columns for each strategy against the human text, with features of the judge if there is one.

    Features are of prompt and continuation together, as in the paper. Only the first sample of each prompt is used, so
    that both sets have one text per prompt.
    """
    human = next(output for output in outputs if output.strategy is HUMAN)
    others = [output for output in outputs if output is not human]
    texts = len(set(human.prompt_ids))
    columns = {human.name: missing_mauve_columns(texts, "the reference that the others are compared with")}
    if texts < MIN_TEXTS:
        reason = f"{texts} continuations, but it needs at least {MIN_TEXTS} (--prompts)"
        return columns | {output.name: missing_mauve_columns(texts, reason) for output in others}
    with progress("measuring MAUVE", total=len(others), unit="strategies") as advance:
        reference = _features(loaded, human, judge)
        for output in others:
            columns[output.name] = mauve_columns(reference, _features(loaded, output, judge), seed=seed)
            advance(1)
    return columns


def _features(loaded: LoadedModel, output: StrategyOutput, judge: LoadedModel | None) -> np.ndarray:
    """MAUVE's features of each prompt with its first continuation: [prompts, width]."""
    first = {prompt_id: index for index, prompt_id in reversed(list(enumerate(output.prompt_ids)))}
    chosen = [first[prompt_id] for prompt_id in dict.fromkeys(output.prompt_ids)]
    pairs = [(output.prompts[index], output.continuations[index]) for index in chosen]
    if judge is None:
        return text_features(loaded, [[*prompt.token_ids, *one.token_ids] for prompt, one in pairs])
    ids = [split_ids(judge.tokenizer, prompt.text, one.text) for prompt, one in pairs]
    return text_features(judge, [[*before, *after] for before, after in ids])
