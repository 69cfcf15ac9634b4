"""Self-BLEU of two sets of texts that exchange the texts of some prompts.

BLEU clips a text's count of an n-gram to the largest count in another text of its set. So the c-th occurrence of an
n-gram in a text counts if another text of the set has at least c of it. A *level* is the slots (see
``exchanged_sets.py``) that have at least c of an n-gram; the n-grams and counts with the same slots are one level with
their number as its weight. A level of one slot never counts, and one with both texts of two prompts always does. For
all others, it is the number of their slots on each side that decides, and that is a product of two matrices.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from textgen.evaluation.quality.exchanged_sets import SetValues, in_chunks, membership, on_side_a, owners
from textgen.evaluation.quality.ngrams import ngram_counts
from textgen.evaluation.quality.self_bleu import SMOOTHING_EPSILON


class _Matches(NamedTuple):
    """The matches of one order: those in every arrangement, [2n]; those with one other text if it is on the same side,
    [2n, 2n]; and levels of several slots, [2n, levels], with their weights and sizes [levels]."""

    always: np.ndarray
    pairs: np.ndarray
    members: np.ndarray
    weights: np.ndarray
    sizes: np.ndarray
    lengths: np.ndarray  # number of n-grams of each text, at least 1, [2n]

    def on_own_side(self, on_a: np.ndarray) -> np.ndarray:
        """Matches of each text with the texts of its side, [arrangements, 2n], from which slots are on side a."""
        in_a = on_a @ self.members
        both = []
        for side, inside in ((on_a, in_a), (1 - on_a, self.sizes - in_a)):
            both.append((((inside >= 2) * self.weights) @ self.members.T + side @ self.pairs) * side)
        return both[0] + both[1] + self.always


def exchanged_self_bleu(n: int) -> SetValues:
    """Self-BLEU-n (the mean of :func:`textgen.evaluation.quality.self_bleu.self_bleu_scores`) in each arrangement."""

    def values(a: Sequence[str], b: Sequence[str], swapped: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        prompts = len(a)
        if prompts < 2:
            return np.zeros(len(swapped)), np.zeros(len(swapped))
        texts = (*a, *b)
        orders = [_matches(texts, order) for order in range(1, n + 1)]
        brevity = _BrevityPenalties(texts)
        side = on_side_a(swapped)
        found = np.empty((2, len(swapped)))
        widest = max(4 * prompts, *(len(order.weights) for order in orders))
        for rows, on_a in in_chunks(side, widest):
            log_precisions = np.zeros(on_a.shape)
            shares_a_word = np.ones(on_a.shape, dtype=bool)
            for number, order in enumerate(orders):
                matched = np.rint(order.on_own_side(on_a)).astype(np.float64)
                log_precisions += np.log(np.where(matched > 0, matched, SMOOTHING_EPSILON) / order.lengths)
                if number == 0:
                    shares_a_word = matched > 0
            scores = np.where(shares_a_word, np.exp(log_precisions / n), 0.0) * brevity.of(on_a)
            found[0, rows] = (scores * on_a).sum(axis=1) / prompts
            found[1, rows] = (scores * (1 - on_a)).sum(axis=1) / prompts
        return found[0], found[1]

    return values


def _matches(texts: Sequence[str], order: int) -> _Matches:
    slots = len(texts)
    prompts = slots // 2
    counts = [ngram_counts(text, order) for text in texts]
    levels: Counter[tuple[int, ...]] = Counter()
    for ngram, owner in owners(counts).items():
        if len(owner) < 2:
            continue
        times = {slot: counts[slot][ngram] for slot in owner}
        for least in range(1, sorted(times.values())[-2] + 1):
            levels[tuple(slot for slot in owner if times[slot] >= least)] += 1
    always = np.zeros(slots)
    pairs = np.zeros((slots, slots), dtype=np.float32)
    several = []
    for members, weight in levels.items():
        if len(members) - len({slot % prompts for slot in members}) >= 2:  # both texts of two prompts
            always[list(members)] += weight
        elif len(members) == 2:
            first, second = members
            pairs[first, second] += weight
            pairs[second, first] += weight
        else:
            several.append(members)
    return _Matches(
        always,
        pairs,
        membership(several, slots),
        np.array([levels[members] for members in several], dtype=np.float32),
        np.array([len(members) for members in several], dtype=np.float32),
        np.array([max(1, count.total()) for count in counts], dtype=np.float64),
    )


class _BrevityPenalties:
    """exp(min(0, 1 − r/c)) of each text, for its length c and the closest length r of another text of its side."""

    def __init__(self, texts: Sequence[str]) -> None:
        lengths = np.array([len(text.split()) for text in texts])
        self._lengths, self._which = np.unique(lengths, return_inverse=True)
        self._has_length = (self._which[:, None] == np.arange(len(self._lengths))).astype(np.float32)

    def of(self, on_a: np.ndarray) -> np.ndarray:
        """[arrangements, 2n], from which slots are on side a."""
        in_a = on_a @ self._has_length
        sides = [self._of_side(inside)[:, self._which] for inside in (in_a, self._has_length.sum(axis=0) - in_a)]
        return np.where(on_a > 0, *sides)

    def _of_side(self, texts: np.ndarray) -> np.ndarray:
        """The penalty of a text of each length, from the number of texts with each on its side, [arrangements, any]."""
        place, columns = np.arange(len(self._lengths)), len(self._lengths)
        edge = np.full((len(texts), 1), -1)
        below = np.maximum.accumulate(np.where(texts > 0, place, -1), axis=1)
        below = np.concatenate([edge, below[:, :-1]], axis=1)  # the closest shorter length, -1 if there is none
        above = np.minimum.accumulate(np.where(texts > 0, place, columns)[:, ::-1], axis=1)[:, ::-1]
        above = np.concatenate([above[:, 1:], edge + 1 + columns], axis=1)  # the closest longer one, or ``columns``
        lengths = np.concatenate([self._lengths, [np.inf, -np.inf]])  # the last two: no longer one, no shorter one
        longer, shorter = lengths[above], lengths[below]
        with np.errstate(divide="ignore", invalid="ignore"):
            penalty = np.exp(1 - longer / self._lengths)
        is_closest = (texts < 2) & np.isfinite(longer) & (longer - self._lengths < self._lengths - shorter)
        return np.where(self._lengths == 0, 0.0, np.where(is_closest, penalty, 1.0))
