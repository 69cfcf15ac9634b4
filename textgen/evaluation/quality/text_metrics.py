"""Metrics of continuations that need only their texts, each as an estimate with its uncertainty over prompts.

The formulas are in ``ngrams.py`` and ``self_bleu.py``. Metrics that depend on the size of a set of texts (distinct-n,
self-BLEU, Zipf) are computed on sets with one text per prompt and, if prompts have several continuations, averaged over
these sets. So a strategy with five samples per prompt is compared with the one human text per prompt at equal size.
"""

import math
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from textgen.evaluation.quality.exchanged_self_bleu import exchanged_self_bleu
from textgen.evaluation.quality.exchanged_sets import SetValues, exchanged_distinct, exchanged_zipf, over_samples
from textgen.evaluation.quality.ngrams import (
    Ngram,
    distinct_n,
    diversity,
    ngram_counts,
    seq_rep_values,
    unique_and_total,
    zipf_coefficient,
    zipf_slope,
)
from textgen.evaluation.quality.self_bleu import self_bleu_scores
from textgen.evaluation.uncertainty.bootstrap import as_json, ratio
from textgen.evaluation.uncertainty.estimate import (
    Estimate,
    PromptParts,
    estimate_of_mean,
    estimate_of_ratio,
    estimate_of_sums,
)
from textgen.evaluation.uncertainty.label_swap import SETS

FRACTION = (0.0, 1.0)


@dataclass(frozen=True)
class TextSet:
    """The continuations to measure: for each, its text, its length in tokens, and its prompt's number 0, 1, …"""

    texts: Sequence[str]
    token_counts: Sequence[int]
    clusters: Sequence[int]

    @cached_property
    def one_per_prompt(self) -> list[list[int]]:
        """Indices of the texts in sets of at most one per prompt: all first samples, all second samples, and so on."""
        sets: list[list[int]] = []
        samples: Counter[int] = Counter()
        for index, prompt in enumerate(self.clusters):
            if samples[prompt] == len(sets):
                sets.append([])
            sets[samples[prompt]].append(index)
            samples[prompt] += 1
        return sets

    @cached_property
    def by_prompt(self) -> list[list[str]]:
        """The texts of each prompt."""
        found: list[list[str]] = [[] for _ in set(self.clusters)]
        for text, prompt in zip(self.texts, self.clusters, strict=True):
            found[prompt].append(text)
        return found


Metric = Callable[[TextSet, int], Estimate]
"""From continuations and a seed to the metric's estimate."""

SetStatistic = Callable[[Sequence[str], Sequence[int], int], tuple[float, np.ndarray]]
"""From the texts and prompt numbers of one set, and the number of all prompts, to the statistic's value and its values
without each prompt in turn [prompts]."""


def _rep(n: int) -> Metric:
    def estimate(given: TextSet, seed: int) -> Estimate:
        unique, total = unique_and_total(given.texts, n)
        return estimate_of_ratio(total - unique, total, clusters=given.clusters, seed=seed)

    return estimate


def _diversity(*, simctg_compat: bool) -> Metric:
    def product(sums: np.ndarray) -> np.ndarray:
        unique, total = sums[..., 0::2], sums[..., 1::2]
        return (1 - ratio(total - unique, total)).prod(axis=-1)

    def estimate(given: TextSet, seed: int) -> Estimate:
        sums = [counts for n in (2, 3, 4) for counts in unique_and_total(given.texts, n, simctg_compat=simctg_compat)]
        value = diversity(given.texts, simctg_compat=simctg_compat)
        return estimate_of_sums(product, sums, clusters=given.clusters, seed=seed, value=value)

    return estimate


def _seq_rep(n: int) -> Metric:
    def estimate(given: TextSet, seed: int) -> Estimate:
        return _estimate_of_exact_mean(seq_rep_values(given.texts, n), given, seed)

    return estimate


def _jackknifed(statistic: SetStatistic, exchanged: SetValues) -> Metric:
    """The mean of a statistic over sets of one text per prompt, with the uncertainty of the jackknife.

    Not of the bootstrap: drawing prompts with replacement repeats texts, which changes the number of distinct items.
    """
    over_sets = over_samples(exchanged)

    def estimate(given: TextSet, seed: int) -> Estimate:
        prompts = len(set(given.clusters))
        found = [
            statistic([given.texts[i] for i in indices], [given.clusters[i] for i in indices], prompts)
            for indices in given.one_per_prompt
        ]
        if not found:
            return Estimate(0.0, 0)
        value = math.fsum(value for value, _ in found) / len(found)
        left_out = np.mean([left_out for _, left_out in found], axis=0)
        return Estimate(value, prompts, left_out=left_out, parts=PromptParts(given.by_prompt, over_sets, SETS))

    return estimate


def _distinct(n: int) -> Metric:
    def statistic(texts: Sequence[str], clusters: Sequence[int], prompts: int) -> tuple[float, np.ndarray]:
        counts = [ngram_counts(text, n) for text in texts]
        only_prompt: dict[Ngram, int] = {}  # the one prompt whose text has the n-gram; -1 if several have it
        for prompt, count in zip(clusters, counts, strict=True):
            for ngram in count:
                only_prompt[ngram] = prompt if only_prompt.get(ngram, prompt) == prompt else -1
        total = np.bincount(clusters, weights=[count.total() for count in counts], minlength=prompts)
        exclusive = np.array([prompt for prompt in only_prompt.values() if prompt >= 0], dtype=np.int64)
        lost = np.bincount(exclusive, minlength=prompts)
        return distinct_n(texts, n), ratio(len(only_prompt) - lost, total.sum() - total)

    metric = _jackknifed(statistic, exchanged_distinct(n))
    return lambda given, seed: replace(metric(given, seed), limits=FRACTION)


def _zipf(texts: Sequence[str], clusters: Sequence[int], prompts: int) -> tuple[float, np.ndarray]:
    numbers: dict[str, int] = {}
    words = [np.array([numbers.setdefault(word, len(numbers)) for word in text.split()], np.int64) for text in texts]
    total = sum((np.bincount(ids, minlength=len(numbers)) for ids in words), np.zeros(len(numbers), np.int64))
    value = zipf_coefficient(texts)
    left_out = np.full(prompts, value)
    for prompt, ids in zip(clusters, words, strict=True):
        left_out[prompt] = zipf_slope(total - np.bincount(ids, minlength=len(numbers)))
    return value, left_out


def _self_bleu(n: int) -> Metric:
    over_sets = over_samples(exchanged_self_bleu(n))

    def estimate(given: TextSet, seed: int) -> Estimate:
        # The scores against the original set are resampled, not the texts: a resampled text would meet its own copies.
        scores = np.zeros(len(given.texts))
        for indices in given.one_per_prompt:
            scores[indices] = self_bleu_scores([given.texts[i] for i in indices], n)
        # Exchanged are the texts, as each changes the scores of the others.
        parts = PromptParts(given.by_prompt, over_sets, SETS)
        return replace(_estimate_of_exact_mean(scores, given, seed), parts=parts)

    return estimate


def _length(given: TextSet, seed: int) -> Estimate:
    return estimate_of_mean(given.token_counts, clusters=given.clusters, seed=seed)


def _estimate_of_exact_mean(values: np.ndarray, given: TextSet, seed: int) -> Estimate:
    """The estimate of the mean of ``values`` [texts], whose sum is rounded only once; 0 if there are none."""
    mean = math.fsum(values) / len(values) if len(values) else 0.0
    return estimate_of_mean(values, clusters=given.clusters, seed=seed, value=mean)


# To add a metric: its formula goes into ngrams.py, its estimate above, its entry here; and add a test.
TEXT_METRICS: dict[str, Metric] = {
    "diversity": _diversity(simctg_compat=False),
    "diversity_simctg": _diversity(simctg_compat=True),  # for comparison with published numbers
    "rep_2": _rep(2),
    "rep_3": _rep(3),
    "rep_4": _rep(4),
    "seq_rep_4": _seq_rep(4),
    "distinct_1": _distinct(1),
    "distinct_2": _distinct(2),
    "distinct_3": _distinct(3),
    "self_bleu_4": _self_bleu(4),
    "zipf": _jackknifed(_zipf, exchanged_zipf),
    "length": _length,  # mean number of tokens
}


def text_estimates(
    texts: Sequence[str], token_counts: Sequence[int], seed: int, prompts: Sequence[Hashable] | None = None
) -> dict[str, Estimate]:
    """The estimate of every metric of :data:`TEXT_METRICS`, by its name.

    Estimates of two strategies over the same prompts in the same order can be compared. All values are finite: with no
    texts, diversity is 1 and everything else 0; with one text, intervals have no width.

    Args:
        texts: the continuations.
        token_counts: the number of tokens of each.
        seed: random seed of the bootstrap.
        prompts: the id of each text's prompt; texts of one prompt are resampled together. None if no prompt has two.
    """
    assert len(token_counts) == len(texts), "one token count per text"
    assert prompts is None or len(prompts) == len(texts), "one prompt per text"
    given = TextSet(texts, token_counts, cluster_numbers(range(len(texts)) if prompts is None else prompts))
    return {name: metric(given, seed) for name, metric in TEXT_METRICS.items()}


def cluster_numbers(ids: Sequence[Hashable]) -> list[int]:
    """The number of each id: 0, 1, … in the order of first occurrence."""
    numbers: dict[Hashable, int] = {}
    return [numbers.setdefault(one, len(numbers)) for one in ids]


def estimate_columns(estimates: Mapping[str, Estimate]) -> dict[str, float | list[float] | None]:
    """Each estimate's value under its name, and its 95 % interval [low, high] under ``<name>_interval``.

    None is the interval of a single prompt, but for a rate.
    """
    row: dict[str, float | list[float] | None] = {}
    for name, estimate in estimates.items():
        row[name] = float(estimate.value)
        row[f"{name}_interval"] = as_json(estimate.interval())
    return row
