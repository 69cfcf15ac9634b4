"""Repetition, diversity and length of continuations: what the texts alone can tell, each with its uncertainty.

Words are what white space separates. All values are fractions, not percentages. None of them says whether a text is
good: the human continuations of the same prompts are the target, and both more and less than theirs is worse.
"""

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from textgen.evaluation.statistics import (
    Interval,
    bootstrap,
    bootstrap_mean,
    bootstrap_ratio,
    jackknife_interval,
    per_cluster,
    ratio,
)

SMOOTHING_EPSILON = 0.1  # method 1 of Chen & Cherry 2014, with nltk's value
Ngram = tuple[str, ...]


def ngram_counts(text: str, n: int) -> Counter[Ngram]:
    """How often each n-gram of white-space words occurs in the text; empty if it has fewer than n words."""
    words = text.split()
    return Counter(zip(*(words[start:] for start in range(n)), strict=False))


def unique_and_total(texts: Sequence[str], n: int) -> tuple[np.ndarray, np.ndarray]:
    """Number of different n-grams, and number of n-grams, in each text by itself: two arrays [texts]."""
    counts = [ngram_counts(text, n) for text in texts]
    unique = np.array([len(count) for count in counts], dtype=np.float64)
    return unique, np.array([count.total() for count in counts], dtype=np.float64)


def rep_n(texts: Sequence[str], n: int) -> float:
    """Share of n-grams that repeat one of their own text: 1 − Σ unique / Σ all (SimCTG, arXiv 2202.06417, section 4.2).

    Texts shorter than n words do not enter; if no text has an n-gram, nothing repeats and the value is 0.
    """
    unique, total = unique_and_total(texts, n)
    return float(ratio((total - unique).sum(), total.sum()))


def diversity(texts: Sequence[str]) -> float:
    """Π over n = 2, 3, 4 of (1 − rep-n) (SimCTG, arXiv 2202.06417): 1 is no repetition at all.

    An n of which no text has an n-gram contributes a factor of 1, so empty texts give 1: read it beside the length.
    """
    return math.prod(1 - rep_n(texts, n) for n in (2, 3, 4))


def seq_rep_n(texts: Sequence[str], n: int = 4) -> float:
    """Mean over the texts of 1 − unique / all n-grams (Welleck et al., arXiv 1908.04319, section 6.1).

    A text shorter than n words repeats nothing and counts as 0; so does having no text.
    """
    return _mean(_seq_rep_values(texts, n))


def distinct_n(texts: Sequence[str], n: int) -> float:
    """Different n-grams over all n-grams of all the texts together (Li et al., arXiv 1510.03055).

    It falls as the texts get longer or more: compare at equal size only. 0 if no text has an n-gram.
    """
    counts = [ngram_counts(text, n) for text in texts]
    return float(ratio(len(set().union(*counts)), sum(count.total() for count in counts)))


def self_bleu(texts: Sequence[str], n: int = 4) -> float:
    """Mean BLEU-n of each text against all the others: how alike the texts are (Texygen, arXiv 1802.01886).

    Equals nltk's ``sentence_bleu`` with uniform weights and smoothing method 1. A text that shares no word with the
    others scores 0, as does an empty one; with fewer than two texts there is nothing to resemble and the value is 0.
    """
    return _mean(self_bleu_scores(texts, n))


def self_bleu_scores(texts: Sequence[str], n: int = 4) -> np.ndarray:
    """BLEU-n of each text against all the others, [texts]; zeros for fewer than two texts.

    BLEU clips a text's count of an n-gram to the largest count in any one reference. Over *all the other* texts, that
    is the largest count, or the second largest where the text itself has the largest: so two passes over the n-grams
    do.
    """
    if len(texts) < 2:
        return np.zeros(len(texts))
    log_precisions = np.zeros(len(texts))
    shares_a_word = np.ones(len(texts), dtype=bool)
    for order in range(1, n + 1):
        counts = [ngram_counts(text, order) for text in texts]
        largest = _two_largest_counts(counts)
        for index, count in enumerate(counts):
            matched = 0
            for ngram, times in count.items():
                first, owner, second = largest[ngram]
                matched += min(times, second if owner == index else first)
            log_precisions[index] += math.log((matched or SMOOTHING_EPSILON) / max(1, count.total()))
            if order == 1:
                shares_a_word[index] = matched > 0
    return np.where(shares_a_word, np.exp(log_precisions / n) * _brevity_penalties(texts), 0.0)


def _two_largest_counts(counts: Sequence[Counter[Ngram]]) -> dict[Ngram, tuple[int, int, int]]:
    """For each n-gram its largest count in one text, that text's index, and the largest count in any other text."""
    largest: dict[Ngram, tuple[int, int, int]] = {}
    for index, count in enumerate(counts):
        for ngram, times in count.items():
            first, owner, second = largest.get(ngram, (0, -1, 0))
            if times > first:
                largest[ngram] = (times, index, first)
            elif times > second:
                largest[ngram] = (first, owner, times)
    return largest


def _brevity_penalties(texts: Sequence[str]) -> np.ndarray:
    """exp(min(0, 1 − r/c)), [texts]: c words against the closest length r of the other texts, the shorter one in a tie.

    An empty text gets 0 (Papineni et al. 2002, section 2.2.2).
    """
    lengths = [len(text.split()) for text in texts]
    texts_of_length = Counter(lengths)
    ordered = sorted(texts_of_length)
    penalties = []
    for length in lengths:
        closest = length
        if texts_of_length[length] == 1:
            position = bisect_left(ordered, length)
            neighbours = ordered[max(0, position - 1) : position] + ordered[position + 1 : position + 2]
            closest = min(neighbours, key=lambda other: (abs(other - length), other))
        penalties.append(math.exp(min(0.0, 1 - closest / length)) if length else 0.0)
    return np.array(penalties)


def _mean(values: Sequence[float] | np.ndarray) -> float:
    """Mean of the values [items]; 0 if there are none."""
    return math.fsum(values) / len(values) if len(values) else 0.0


def _seq_rep_values(texts: Sequence[str], n: int) -> np.ndarray:
    unique, total = unique_and_total(texts, n)
    return ratio(total - unique, total)


@dataclass(frozen=True)
class Continuations:
    """What is measured: texts, their lengths in tokens, and the number (0, 1, …) of the prompt that each continues."""

    texts: Sequence[str]
    token_counts: Sequence[int]
    prompts: Sequence[int]


Metric = Callable[[Continuations, int], tuple[float, Interval]]
"""From continuations and a seed to the metric's value and its 95 % interval over prompts."""


def _rep(n: int) -> Metric:
    def measured(given: Continuations, seed: int) -> tuple[float, Interval]:
        unique, total = unique_and_total(given.texts, n)
        return rep_n(given.texts, n), bootstrap_ratio(total - unique, total, seed=seed, clusters=given.prompts)

    return measured


def _diversity(given: Continuations, seed: int) -> tuple[float, Interval]:
    columns = [column for n in (2, 3, 4) for column in unique_and_total(given.texts, n)]

    def product(sums: np.ndarray) -> np.ndarray:
        unique, total = sums[:, 0::2], sums[:, 1::2]
        return (1 - ratio(total - unique, total)).prod(axis=1)

    return diversity(given.texts), bootstrap(product, columns, seed=seed, clusters=given.prompts)


def _seq_rep(n: int) -> Metric:
    def measured(given: Continuations, seed: int) -> tuple[float, Interval]:
        values = _seq_rep_values(given.texts, n)
        return _mean(values), bootstrap_mean(values, seed=seed, clusters=given.prompts)

    return measured


def _distinct(n: int) -> Metric:
    def measured(given: Continuations, seed: int) -> tuple[float, Interval]:
        counts = [ngram_counts(text, n) for text in given.texts]
        only_prompt: dict[Ngram, int] = {}  # the one prompt an n-gram belongs to; -1 if it belongs to several
        for prompt, count in zip(given.prompts, counts, strict=True):
            for ngram in count:
                only_prompt[ngram] = prompt if only_prompt.get(ngram, prompt) == prompt else -1
        total = per_cluster([count.total() for count in counts], given.prompts)
        exclusive = np.array([prompt for prompt in only_prompt.values() if prompt >= 0], dtype=np.int64)
        lost = np.bincount(exclusive, minlength=len(total))
        value = distinct_n(given.texts, n)
        low, high = jackknife_interval(value, ratio(len(only_prompt) - lost, total.sum() - total))
        return value, (max(0.0, low), min(1.0, high))

    return measured


def _self_bleu(n: int) -> Metric:
    def measured(given: Continuations, seed: int) -> tuple[float, Interval]:
        scores = self_bleu_scores(given.texts, n)
        return _mean(scores), bootstrap_mean(scores, seed=seed, clusters=given.prompts)

    return measured


def _length(given: Continuations, seed: int) -> tuple[float, Interval]:
    return _mean(given.token_counts), bootstrap_mean(given.token_counts, seed=seed, clusters=given.prompts)


# To add a metric, add its function above, its entry here and its test.
TEXT_METRICS: dict[str, Metric] = {
    "diversity": _diversity,
    "rep_2": _rep(2),
    "rep_3": _rep(3),
    "rep_4": _rep(4),
    "seq_rep_4": _seq_rep(4),
    "distinct_2": _distinct(2),  # the jackknife: resampling with replacement would repeat texts and so lower it
    "self_bleu_4": _self_bleu(4),  # over each text's score against the others as they are, for the same reason
    "length": _length,  # mean number of tokens
}


def measure(
    texts: Sequence[str], token_counts: Sequence[int], seed: int, prompts: Sequence[Hashable] | None = None
) -> dict[str, float | list[float]]:
    """Every metric of ``TEXT_METRICS`` under its name, and its 95 % interval [low, high] under ``<name>_interval``.

    Give ``prompts``, one id a text, where a prompt has several continuations: these are resampled together. Intervals
    of two strategies over the same prompts with the same seed rest on the same resamples. All values are finite: no
    texts give diversity 1 and zero elsewhere, one text gives intervals of no width.
    """
    assert len(token_counts) == len(texts), "one token count a text"
    assert prompts is None or len(prompts) == len(texts), "one prompt a text"
    numbers: dict[Hashable, int] = {}
    ids = range(len(texts)) if prompts is None else prompts
    given = Continuations(texts, token_counts, [numbers.setdefault(prompt, len(numbers)) for prompt in ids])
    row: dict[str, float | list[float]] = {}
    for name, metric in TEXT_METRICS.items():
        value, interval = metric(given, seed)
        row[name] = float(value)
        row[f"{name}_interval"] = [float(bound) for bound in interval]
    return row
