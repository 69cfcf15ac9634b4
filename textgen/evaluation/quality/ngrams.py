"""Repetition and diversity by their published formulas, as plain functions of texts.

Words are what white space separates. All values are fractions, not percentages. None of them says whether a text is
good: the human continuations of the same prompts are the target, and both more and less than theirs is worse.
"""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from textgen.evaluation.uncertainty.bootstrap import ratio

ZIPF_RANKS = 5000  # the most frequent words, which the fit is over: as many as in Holtzman et al.'s code
Ngram = tuple[str, ...]


def ngram_counts(text: str, n: int, *, simctg_compat: bool = False) -> Counter[Ngram]:
    """How often each n-gram of white-space words occurs in the text; empty if it has fewer than n words.

    With ``simctg_compat`` the text's last n-gram is left out, as SimCTG's code does (``simctg/evaluation.py``, whose
    loop ends one early).
    """
    words = text.split()
    if simctg_compat:
        return Counter(tuple(words[start : start + n]) for start in range(len(words) - n))
    return Counter(zip(*(words[start:] for start in range(n)), strict=False))


def unique_and_total(texts: Sequence[str], n: int, *, simctg_compat: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Number of different n-grams, and number of n-grams, in each text by itself: two arrays [texts]."""
    counts = [ngram_counts(text, n, simctg_compat=simctg_compat) for text in texts]
    unique = np.array([len(count) for count in counts], dtype=np.float64)
    return unique, np.array([count.total() for count in counts], dtype=np.float64)


def rep_n(texts: Sequence[str], n: int, *, simctg_compat: bool = False) -> float:
    """Share of n-grams that repeat one of their own text: 1 − Σ unique / Σ all (SimCTG, arXiv 2202.06417, section 4.2).

    Texts shorter than n words do not enter; if no text has an n-gram, nothing repeats and the value is 0. With
    ``simctg_compat``, as SimCTG's code has it: without each text's last n-gram, and rounded to 0.01 %.
    """
    unique, total = unique_and_total(texts, n, simctg_compat=simctg_compat)
    repeated = float(ratio((total - unique).sum(), total.sum()))
    return round(repeated * 100, 2) / 100 if simctg_compat else repeated


def diversity(texts: Sequence[str], *, simctg_compat: bool = False) -> float:
    """Π over n = 2, 3, 4 of (1 − rep-n) (SimCTG, arXiv 2202.06417): 1 is no repetition at all.

    An n of which no text has an n-gram contributes a factor of 1, so empty texts give 1: read it beside the length.
    With ``simctg_compat`` it is the number that SimCTG's code gives for these texts, and so the one in its papers'
    tables (in %, such as 93.62 for the human text of arXiv 2210.14140): without each text's last n-gram, which makes
    texts of few words look more diverse, and the product of rounded factors.
    """
    return math.prod(1 - rep_n(texts, n, simctg_compat=simctg_compat) for n in (2, 3, 4))


def seq_rep_values(texts: Sequence[str], n: int = 4) -> np.ndarray:
    """1 − unique / all n-grams of each text by itself, [texts]; 0 for a text of fewer than n words."""
    unique, total = unique_and_total(texts, n)
    return ratio(total - unique, total)


def distinct_n(texts: Sequence[str], n: int) -> float:
    """Different n-grams over all n-grams of all the texts together (Li et al., arXiv 1510.03055).

    It falls as the texts get longer or more: compare at equal size only. 0 if no text has an n-gram.
    """
    counts = [ngram_counts(text, n) for text in texts]
    return float(ratio(len(set().union(*counts)), sum(count.total() for count in counts)))


def zipf_coefficient(texts: Sequence[str]) -> float:
    """The s of a frequency that falls as rank^−s: natural language has about 1, flat distributions less.

    Least squares of log frequency on log rank over the words of all the texts, at most the 5,000 most frequent ones
    (Zipf 1949; Piantadosi 2014; computed as for Holtzman et al., arXiv 1904.09751, section 5.2, but over words and not
    over tokens). It depends on the size of the texts: compare at equal size. 0 for fewer than two different words.
    """
    return zipf_slope(np.array(list(Counter(word for text in texts for word in text.split()).values())))


def zipf_slope(frequencies: np.ndarray) -> float:
    """The Zipf coefficient of word counts [words] in any order; zeros do not count."""
    ordered = np.sort(frequencies[frequencies > 0])[::-1][:ZIPF_RANKS].astype(np.float64)
    if len(ordered) < 2:
        return 0.0
    rank, frequency = np.log(np.arange(1, len(ordered) + 1)), np.log(ordered)
    rank -= rank.mean()
    return abs(float(rank @ frequency / (rank @ rank)))  # a slope that never rises; abs, so that −0 is 0
