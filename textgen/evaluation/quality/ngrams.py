"""Repetition and diversity by their published formulas, as plain functions of texts.

Words are separated by white space. All values are fractions, not percentages. None of them measures how good a text is:
the target is the value of the human continuations of the same prompts, and a deviation either way is worse.
"""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from textgen.evaluation.uncertainty.bootstrap import ratio

ZIPF_RANKS = 5000  # the fit is over the most frequent words; the same number as in Holtzman et al.'s code
Ngram = tuple[str, ...]


def ngram_counts(text: str, n: int, *, simctg_compat: bool = False) -> Counter[Ngram]:
    """Number of occurrences of each word n-gram in the text; empty if it has fewer than n words.

    With ``simctg_compat`` the text's last n-gram is left out, as in SimCTG's code (``simctg/evaluation.py``, whose loop
    ends one too early).
    """
    words = text.split()
    if simctg_compat:
        return Counter(tuple(words[start : start + n]) for start in range(len(words) - n))
    return Counter(zip(*(words[start:] for start in range(n)), strict=False))


def unique_and_total(texts: Sequence[str], n: int, *, simctg_compat: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Number of different n-grams and number of n-grams of each text: two float64 arrays [texts]."""
    counts = [ngram_counts(text, n, simctg_compat=simctg_compat) for text in texts]
    unique = np.array([len(count) for count in counts], dtype=np.float64)
    return unique, np.array([count.total() for count in counts], dtype=np.float64)


def rep_n(texts: Sequence[str], n: int, *, simctg_compat: bool = False) -> float:
    """Share of n-grams that repeat an earlier one of the same text (SimCTG, arXiv 2202.06417, section 4.2).

    1 − Σ unique / Σ all, with sums over texts. 0 if no text has n words. With ``simctg_compat``, the value of SimCTG's
    code: without each text's last n-gram, and rounded to 0.01 %.
    """
    unique, total = unique_and_total(texts, n, simctg_compat=simctg_compat)
    repeated = float(ratio((total - unique).sum(), total.sum()))
    return round(repeated * 100, 2) / 100 if simctg_compat else repeated


def diversity(texts: Sequence[str], *, simctg_compat: bool = False) -> float:
    """Product over n = 2, 3, 4 of (1 − rep-n) (SimCTG, arXiv 2202.06417): 1 means no repetition at all.

    If no text has n words, the factor for that n is 1, so empty texts have diversity 1: read it together with the
    length. With ``simctg_compat``, the value of SimCTG's code, which is the one in the tables of its papers (in %, such
    as 93.62 for the human text of arXiv 2210.14140): without each text's last n-gram, which makes short texts look more
    diverse, and as a product of rounded factors.
    """
    return math.prod(1 - rep_n(texts, n, simctg_compat=simctg_compat) for n in (2, 3, 4))


def seq_rep_values(texts: Sequence[str], n: int) -> np.ndarray:
    """Seq-rep-n of each text, 1 − unique / all n-grams, [texts]; 0 for a text of fewer than n words."""
    unique, total = unique_and_total(texts, n)
    return ratio(total - unique, total)


def distinct_n(texts: Sequence[str], n: int) -> float:
    """Distinct-n: different n-grams over all n-grams, both of all texts together (Li et al., arXiv 1510.03055).

    It falls as texts get longer or more numerous, so compare only sets of equal size. 0 if no text has n words.
    """
    counts = [ngram_counts(text, n) for text in texts]
    return float(ratio(len(set().union(*counts)), sum(count.total() for count in counts)))


def zipf_coefficient(texts: Sequence[str]) -> float:
    """Exponent s of a power law, word frequency ∝ rank^−s: about 1 for natural language, less if words are more even.

    The negative slope of a least-squares fit of log frequency to log rank, over at most the 5,000 most frequent words
    of all texts (Zipf 1949; Piantadosi 2014; as Holtzman et al., arXiv 1904.09751, section 5.2, but over words instead
    of tokens). It depends on the amount of text, so compare only sets of equal size. 0 for fewer than two different
    words.
    """
    return zipf_slope(np.array(list(Counter(word for text in texts for word in text.split()).values())))


def zipf_slope(frequencies: np.ndarray) -> float:
    """The Zipf coefficient of word counts [words], in any order; zeros are ignored."""
    ordered = np.sort(frequencies[frequencies > 0])[::-1][:ZIPF_RANKS].astype(np.float64)
    if len(ordered) < 2:
        return 0.0
    rank, frequency = np.log(np.arange(1, len(ordered) + 1)), np.log(ordered)
    rank -= rank.mean()
    return abs(float(rank @ frequency / (rank @ rank)))  # the slope is never positive; abs also turns −0 into 0
