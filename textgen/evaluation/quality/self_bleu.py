"""Self-BLEU (Texygen, arXiv 1802.01886): how similar the texts of a set are to each other.

The mean BLEU-n of each text against all the others. BLEU-n is that of nltk's ``sentence_bleu`` with uniform weights and
smoothing method 1, but computed in time linear in the number of texts: 0.02 s instead of 2.9 s for 200 texts of 60
words.
"""

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence

import numpy as np

from textgen.evaluation.quality.ngrams import Ngram, ngram_counts

SMOOTHING_EPSILON = 0.1  # method 1 of Chen & Cherry 2014, with nltk's value


def self_bleu_scores(texts: Sequence[str], n: int) -> np.ndarray:
    """BLEU-n of each text against all the others, [texts]; zeros for fewer than two texts.

    A text that shares no word with the others scores 0, as does an empty one.

    BLEU clips a text's count of an n-gram to the largest count in any one reference. With all the other texts as
    references, that is the largest count in the set, or the second largest if the text itself has the largest. So two
    passes over the n-grams are enough.
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
    """For each n-gram: its largest count in one text, that text's index, and the largest count in any other text."""
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
    """exp(min(0, 1 − r/c)) of each text, [texts], for its length c and the closest length r of another text, in words.

    The shorter r if two are equally close. 0 for an empty text (Papineni et al. 2002, section 2.2.2).
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
