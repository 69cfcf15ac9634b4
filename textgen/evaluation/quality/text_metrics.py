"""Metrics of continuations that their texts alone can tell, each as an estimate: with its uncertainty over prompts.

The formulas are in ``ngrams.py`` and ``self_bleu.py``. What depends on the size of a set of texts (distinct-n,
self-BLEU, Zipf) is taken over sets of one text a prompt, and averaged over these where prompts have several
continuations: so a strategy that samples five times is held against the one human text a prompt at equal size.
"""

import math
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from textgen.evaluation.quality.ngrams import (
    Ngram,
    distinct_n,
    diversity,
    ngram_counts,
    rep_n,
    seq_rep_values,
    unique_and_total,
    zipf_coefficient,
    zipf_slope,
)
from textgen.evaluation.quality.self_bleu import self_bleu_scores
from textgen.evaluation.uncertainty.bootstrap import ratio
from textgen.evaluation.uncertainty.estimate import Estimate, estimate_of_mean, estimate_of_ratio, estimate_of_sums

FRACTION = (0.0, 1.0)


@dataclass(frozen=True)
class TextSet:
    """What is measured: texts, their lengths in tokens, and the number (0, 1, …) of the prompt that each continues."""

    texts: Sequence[str]
    token_counts: Sequence[int]
    prompts: Sequence[int]

    @cached_property
    def rounds(self) -> list[list[int]]:
        """Indices of the texts, in sets of at most one text a prompt: first samples, second samples, and so on."""
        rounds: list[list[int]] = []
        seen: Counter[int] = Counter()
        for index, prompt in enumerate(self.prompts):
            if seen[prompt] == len(rounds):
                rounds.append([])
            rounds[seen[prompt]].append(index)
            seen[prompt] += 1
        return rounds


Metric = Callable[[TextSet, int], Estimate]
"""From continuations and a seed to the metric's estimate."""


def _rep(n: int) -> Metric:
    def measured(given: TextSet, seed: int) -> Estimate:
        unique, total = unique_and_total(given.texts, n)
        value = rep_n(given.texts, n)
        return estimate_of_ratio(total - unique, total, clusters=given.prompts, seed=seed, value=value)

    return measured


def _diversity(*, simctg_compat: bool) -> Metric:
    def product(sums: np.ndarray) -> np.ndarray:
        unique, total = sums[..., 0::2], sums[..., 1::2]
        return (1 - ratio(total - unique, total)).prod(axis=-1)

    def measured(given: TextSet, seed: int) -> Estimate:
        columns = [
            column for n in (2, 3, 4) for column in unique_and_total(given.texts, n, simctg_compat=simctg_compat)
        ]
        value = diversity(given.texts, simctg_compat=simctg_compat)
        return estimate_of_sums(product, columns, clusters=given.prompts, seed=seed, value=value)

    return measured


def _seq_rep(n: int) -> Metric:
    def measured(given: TextSet, seed: int) -> Estimate:
        values = seq_rep_values(given.texts, n)
        return estimate_of_mean(values, clusters=given.prompts, seed=seed, value=_mean(values))

    return measured


def _over_rounds(one_round: Callable[[Sequence[str], Sequence[int], int], tuple[float, np.ndarray]]) -> Metric:
    """The mean over the rounds of a figure, from its value and its values without each prompt, by the jackknife.

    Resampling with replacement would repeat texts, and so change what counts distinct ones.
    """

    def measured(given: TextSet, seed: int) -> Estimate:
        prompts = len(set(given.prompts))
        found = [
            one_round([given.texts[i] for i in indices], [given.prompts[i] for i in indices], prompts)
            for indices in given.rounds
        ]
        if not found:
            return Estimate(0.0, 0)
        return Estimate(
            math.fsum(value for value, _ in found) / len(found),
            prompts,
            left_out=np.mean([left_out for _, left_out in found], axis=0),
        )

    return measured


def _distinct(n: int) -> Metric:
    def one_round(texts: Sequence[str], of: Sequence[int], prompts: int) -> tuple[float, np.ndarray]:
        counts = [ngram_counts(text, n) for text in texts]
        only_prompt: dict[Ngram, int] = {}  # the one prompt an n-gram belongs to; -1 if it belongs to several
        for prompt, count in zip(of, counts, strict=True):
            for ngram in count:
                only_prompt[ngram] = prompt if only_prompt.get(ngram, prompt) == prompt else -1
        total = np.bincount(of, weights=[count.total() for count in counts], minlength=prompts)
        exclusive = np.array([prompt for prompt in only_prompt.values() if prompt >= 0], dtype=np.int64)
        lost = np.bincount(exclusive, minlength=prompts)
        return distinct_n(texts, n), ratio(len(only_prompt) - lost, total.sum() - total)

    metric = _over_rounds(one_round)
    return lambda given, seed: replace(metric(given, seed), limits=FRACTION)


def _zipf(texts: Sequence[str], of: Sequence[int], prompts: int) -> tuple[float, np.ndarray]:
    numbers: dict[str, int] = {}
    words = [np.array([numbers.setdefault(word, len(numbers)) for word in text.split()], np.int64) for text in texts]
    whole = sum((np.bincount(ids, minlength=len(numbers)) for ids in words), np.zeros(len(numbers), np.int64))
    value = zipf_coefficient(texts)
    left_out = np.full(prompts, value)
    for prompt, ids in zip(of, words, strict=True):
        left_out[prompt] = zipf_slope(whole - np.bincount(ids, minlength=len(numbers)))
    return value, left_out


def _self_bleu(n: int) -> Metric:
    def measured(given: TextSet, seed: int) -> Estimate:
        # Of each text's score against the others as they are: among resampled texts, one would meet its own copies.
        scores = np.zeros(len(given.texts))
        for indices in given.rounds:
            scores[indices] = self_bleu_scores([given.texts[i] for i in indices], n)
        return estimate_of_mean(scores, clusters=given.prompts, seed=seed, value=_mean(scores))

    return measured


def _length(given: TextSet, seed: int) -> Estimate:
    value = _mean(given.token_counts)
    return estimate_of_mean(given.token_counts, clusters=given.prompts, seed=seed, value=value)


def _mean(values: Sequence[float] | np.ndarray) -> float:
    """Mean of the values [items]; 0 if there are none."""
    return math.fsum(values) / len(values) if len(values) else 0.0


# To add a metric, add its formula to ngrams.py, its estimate above, its entry here and its test.
TEXT_METRICS: dict[str, Metric] = {
    "diversity": _diversity(simctg_compat=False),
    "diversity_simctg": _diversity(simctg_compat=True),  # to hold against published numbers
    "rep_2": _rep(2),
    "rep_3": _rep(3),
    "rep_4": _rep(4),
    "seq_rep_4": _seq_rep(4),
    "distinct_1": _distinct(1),
    "distinct_2": _distinct(2),
    "distinct_3": _distinct(3),
    "self_bleu_4": _self_bleu(4),
    "zipf": _over_rounds(_zipf),
    "length": _length,  # mean number of tokens
}


def text_estimates(
    texts: Sequence[str], token_counts: Sequence[int], seed: int, prompts: Sequence[Hashable] | None = None
) -> dict[str, Estimate]:
    """Every metric of ``TEXT_METRICS`` under its name.

    Give ``prompts``, one id a text, where a prompt has several continuations: these are resampled together. Estimates
    of two strategies over the same prompts in the same order with the same seed can be subtracted. All values are
    finite: no texts give diversity 1 and zero elsewhere, one text gives intervals of no width.
    """
    assert len(token_counts) == len(texts), "one token count a text"
    assert prompts is None or len(prompts) == len(texts), "one prompt a text"
    given = TextSet(texts, token_counts, cluster_numbers(range(len(texts)) if prompts is None else prompts))
    return {name: metric(given, seed) for name, metric in TEXT_METRICS.items()}


def cluster_numbers(ids: Sequence[Hashable]) -> list[int]:
    """The number of each id, in the order in which they come first."""
    numbers: dict[Hashable, int] = {}
    return [numbers.setdefault(one, len(numbers)) for one in ids]


def columns(estimates: Mapping[str, Estimate]) -> dict[str, float | list[float]]:
    """Each estimate's value under its name, and its 95 % interval [low, high] under ``<name>_interval``."""
    row: dict[str, float | list[float]] = {}
    for name, estimate in estimates.items():
        row[name] = float(estimate.value)
        row[f"{name}_interval"] = [float(bound) for bound in estimate.interval()]
    return row
