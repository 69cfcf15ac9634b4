"""Truncation diagnostics: the tokens that each truncation strategy keeps, measured without generating anything.

At each position of the human continuations, a truncation strategy keeps some tokens of the model's distribution. The
number of these tokens, their total probability, the entropy of the choice among them, and how often the human's token
is one of them show what the strategy can write at all: one that drops the human's token at every tenth position could
not have written the human text.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from textgen.evaluation.decoding.prompts import Prompt
from textgen.evaluation.decoding.strategies import Strategy
from textgen.evaluation.decoding.truncation import is_truncation, truncate
from textgen.evaluation.loaded_model import LoadedModel
from textgen.evaluation.quality.teacher_forcing import Span, score_spans
from textgen.evaluation.uncertainty.bootstrap import as_json, bootstrap_ratio
from textgen.evaluation.uncertainty.rates import rate_interval
from textgen.progress import progress

UNTRUNCATED = "untruncated"
"""The row of the model's whole distribution."""

METRICS = ("kept_size", "kept_mass", "entropy", "human_coverage")
"""Means over positions, each with an interval: number of tokens kept; their total probability at temperature 1; entropy
in nats of the distribution that is drawn from, after temperature, truncation and renormalization; share of positions at
which the human's token is kept."""


def truncation_coverage(
    loaded: LoadedModel, prompts: Sequence[Prompt], strategies: Sequence[Strategy], *, seed: int
) -> list[dict[str, Any]]:
    """One row for the whole distribution, and one for each truncation strategy; the same on every process.

    Keys: strategy, family, settings, positions, each of :data:`METRICS` with its 95 % interval over prompts, and
    kept_size_median. Strategies that do not draw from a function of the next-token distribution alone (beams,
    penalties, mirostat, …) have no row. No rows if there is no truncation strategy or no human continuation.
    """
    chosen = [strategy for strategy in strategies if is_truncation(strategy)]
    if not chosen:
        return []
    spans = [Span(prompt.token_ids, prompt.reference_ids) for prompt in prompts]

    def score(log_probs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        everything = torch.ones_like(log_probs, dtype=torch.bool)
        columns = _metrics_at(log_probs, log_probs, everything, targets)
        for strategy in chosen:
            columns += _metrics_at(log_probs, *truncate(strategy, log_probs), targets)
        return torch.stack(columns, dim=1)

    count = len(METRICS)
    with progress("truncation diagnostics"):
        found = score_spans(loaded, spans, score, columns=count * (1 + len(chosen)))
    if not sum(len(one) for one in found):
        return []
    return [
        {
            "strategy": strategy.name if strategy else UNTRUNCATED,
            "family": strategy.family if strategy else UNTRUNCATED,
            "settings": dict(strategy.settings) if strategy else {},
            **_row(
                [one[:, count * place : count * (place + 1)] for one in found],
                seed,
                # The first column of each strategy is its number of kept tokens; of the untruncated one, that is all.
                keeps_everything=all(np.array_equal(one[:, count * place], one[:, 0]) for one in found),
            ),
        }
        for place, strategy in enumerate([None, *chosen])
    ]


def _metrics_at(
    log_probs: torch.Tensor, own: torch.Tensor, mask: torch.Tensor, targets: torch.Tensor
) -> list[torch.Tensor]:
    """The columns of :data:`METRICS`, [positions] each.

    ``log_probs`` is the model's distribution; ``own`` is the strategy's before truncation, of which ``mask`` is kept.
    """
    kept = own.masked_fill(~mask, -torch.inf).log_softmax(dim=-1)
    surprise = kept.exp() * kept.clamp(min=torch.finfo(kept.dtype).min)  # 0 for tokens that are dropped
    return [
        mask.sum(dim=-1).double(),
        (log_probs.exp() * mask).double().sum(dim=-1),
        -surprise.double().sum(dim=-1),
        mask.gather(1, targets[:, None])[:, 0].double(),
    ]


def _row(found: Sequence[np.ndarray], seed: int, *, keeps_everything: bool) -> dict[str, Any]:
    """A strategy's means, intervals and median, from the values [positions, metrics] of each prompt."""
    positions = [len(one) for one in found]
    row: dict[str, Any] = {"positions": sum(positions)}
    for column, name in enumerate(METRICS):
        sums = [float(one[:, column].sum()) for one in found]
        row[name] = sum(sums) / sum(positions)
        is_rate = name == "human_coverage" and not keeps_everything  # else it is 1 by definition
        interval = rate_interval(sums, positions) if is_rate else bootstrap_ratio(sums, positions, seed=seed)
        row[f"{name}_interval"] = as_json(interval)
        if name == "kept_size":
            row["kept_size_median"] = float(np.median(np.concatenate([one[:, column] for one in found])))
    return row
