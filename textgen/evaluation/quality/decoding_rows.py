"""The rows of ``decoding.json``: every figure of a strategy's continuations, once they are all there.

Nothing here decodes: the continuations are read again, by the model itself, by a judge if there is one, and as texts.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from textgen.evaluation.decoding.prompts import Prompt
from textgen.evaluation.decoding.strategies import Strategy
from textgen.evaluation.decoding.truncation import is_truncation, mask_of, setting_of, tempered
from textgen.evaluation.quality.human_differences import difference_columns
from textgen.evaluation.quality.judge import Judge, judge_nlls, sequence_of
from textgen.evaluation.quality.mauve import LEAST, features, mauve_columns
from textgen.evaluation.quality.teacher_forcing import Given, read_continuations
from textgen.evaluation.quality.text_metrics import columns, text_estimates
from textgen.evaluation.uncertainty.estimate import Estimate, estimate_of_mean, estimate_of_ratio

HUMAN = "human"


@dataclass(frozen=True)
class Written:
    """What a strategy, or the humans (None), wrote: entry i continues ``prompts[i]``.

    All of a comparison have the same prompts in the same order, where each is repeated as often as it was sampled.
    """

    strategy: Strategy | None
    prompts: Sequence[Prompt]
    texts: Sequence[str]
    token_ids: Sequence[Sequence[int]]

    @property
    def name(self) -> str:
        return self.strategy.name if self.strategy else HUMAN


@dataclass(frozen=True)
class Scoring:
    """How continuations are scored: of ``max_new_tokens`` at most, with a judge or without one.

    ``interval_width`` is what is wanted of a difference from human, as a share of the human value.
    """

    max_new_tokens: int
    seed: int
    interval_width: float
    judge: Judge | None = None


def decoding_rows(
    accelerator: Accelerator, model: Any, written: Sequence[Written], scoring: Scoring
) -> list[dict[str, Any]]:
    """A row of figures for each of ``written``, one of which is the humans'; the same on every process.

    Keys: strategy, family, settings, continuations; the metrics of ``TEXT_METRICS``; nll, in nats a token under the
    model at temperature 1; own_nll, the same under the distribution that the strategy drew from (None where that is not
    a function of the model's next-token distribution); judge_bits_per_byte, with a judge; end_of_text_rate; each with
    its ``_interval``. Then mauve (see ``mauve_columns``) and the differences (see ``differences.py``).
    """
    estimates = {one.name: _estimates(accelerator, model, one, scoring) for one in written}
    width = scoring.interval_width
    samples = {one.name: len(one.prompts) / len({prompt.id for prompt in one.prompts}) for one in written}
    differences = difference_columns(estimates, human=HUMAN, interval_width=width, samples=samples)
    alike = _likeness(accelerator, model, written, scoring)
    rows = []
    for one in written:
        strategy = one.strategy
        figures: dict[str, Any] = columns(estimates[one.name])
        figures.setdefault("own_nll", None)
        figures.setdefault("own_nll_interval", None)
        rows.append(
            {
                "strategy": one.name,
                "family": strategy.family if strategy else HUMAN,
                "settings": dict(strategy.settings) if strategy else {},
                **figures,
                **alike[one.name],
                **differences.get(one.name, {}),
                "prompts": len({prompt.id for prompt in one.prompts}),
                "continuations": len(one.texts),
            }
        )
    return rows


def _estimates(accelerator: Accelerator, model: Any, written: Written, scoring: Scoring) -> dict[str, Estimate]:
    lengths = [len(ids) for ids in written.token_ids]
    ids = [prompt.id for prompt in written.prompts]
    clusters = {id: number for number, id in enumerate(dict.fromkeys(ids))}
    over: dict[str, Any] = {"clusters": [clusters[id] for id in ids], "seed": scoring.seed}
    nlls, own = continuation_nlls(accelerator, model, written)
    found = text_estimates(written.texts, lengths, scoring.seed, prompts=ids)
    found["nll"] = estimate_of_ratio(nlls, lengths, **over)
    if own is not None:
        found["own_nll"] = estimate_of_ratio(own, lengths, **over)
    if scoring.judge:
        judged = judge_nlls(accelerator, scoring.judge, [prompt.text for prompt in written.prompts], written.texts)
        bits = [len(text.encode("utf-8", "replace")) * math.log(2) for text in written.texts]
        found["judge_bits_per_byte"] = estimate_of_ratio(judged, bits, **over)
    # Nothing but the end of the text makes a continuation shorter.
    found["end_of_text_rate"] = estimate_of_mean([float(n < scoring.max_new_tokens) for n in lengths], **over)
    return found


def continuation_nlls(accelerator: Accelerator, model: Any, written: Written) -> tuple[list[float], list[float] | None]:
    """Nats of each continuation after its prompt, 0 for an empty one: under the model, and under the strategy's own
    distribution, after its temperature and truncation, if that is a function of the model's at each position.

    A token that was drawn was kept, so where rounding leaves it just outside of the kept set, it counts as in it.
    """
    strategy = written.strategy if written.strategy and is_truncation(written.strategy) else None

    def read(_: int, log_probs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        nll = -log_probs.gather(1, targets[:, None])
        if strategy is None:
            return nll
        own = tempered(strategy, log_probs)
        mask = mask_of(strategy.family, own, setting_of(strategy, log_probs)).scatter(1, targets[:, None], True)
        left = own.masked_fill(~mask, -torch.inf).log_softmax(dim=-1)
        return torch.cat([nll, -left.gather(1, targets[:, None])], dim=1)

    given = [Given(prompt.token_ids, ids) for prompt, ids in zip(written.prompts, written.token_ids, strict=True)]
    found = read_continuations(accelerator, model, given, read, columns=1 if strategy is None else 2)
    nlls = [math.fsum(one[:, 0]) for one in found]
    return nlls, None if strategy is None else [math.fsum(one[:, 1]) for one in found]


def _likeness(
    accelerator: Accelerator, model: Any, written: Sequence[Written], scoring: Scoring
) -> dict[str, dict[str, Any]]:
    """MAUVE of each strategy against the humans, by the judge's features if there is a judge, else by the model's.

    Features are of prompt and continuation together, as in the paper. Of a prompt's samples, the first counts, so that
    both sets have one text a prompt.
    """
    human = next(one for one in written if one.strategy is None)
    count = len({prompt.id for prompt in human.prompts})
    enough = count >= LEAST
    seen = _features(accelerator, model, human, scoring) if enough else None
    found: dict[str, dict[str, Any]] = {}
    for one in written:
        if one.strategy is None:
            reason = "what the others are compared with"
            found[HUMAN] = {"mauve": None, "mauve_spread": None, "mauve_texts": count, "mauve_reason": reason}
        else:
            own = _features(accelerator, model, one, scoring) if enough else None
            found[one.name] = mauve_columns(seen, own, count, seed=scoring.seed)
    return found


def _features(accelerator: Accelerator, model: Any, written: Written, scoring: Scoring) -> np.ndarray:
    """One row of features a prompt, of its first continuation."""
    first = {prompt.id: index for index, prompt in reversed(list(enumerate(written.prompts)))}
    chosen = [first[id] for id in dict.fromkeys(prompt.id for prompt in written.prompts)]
    judge = scoring.judge
    if judge is None:
        texts = [[*written.prompts[index].token_ids, *written.token_ids[index]] for index in chosen]
        return features(accelerator, model, texts)
    pairs = [sequence_of(judge.tokenizer, written.prompts[index].text, written.texts[index]) for index in chosen]
    return features(accelerator, judge.model, [[*before, *after] for before, after in pairs], judge.context)
