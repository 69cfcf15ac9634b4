"""Distinct-n and the Zipf coefficient of two sets of texts that exchange the texts of some prompts.

The label-swap test computes a metric of all texts together in thousands of arrangements. Only what several texts have
in common has to be counted anew in each. What a single text has moves with that text, so it is a product of two
matrices: which texts are on a side, and what each has.

A *slot* is one of the 2n texts: slots 0 … n−1 are the texts of side a, slots n … 2n−1 those of side b.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from textgen.evaluation.quality.ngrams import ZIPF_RANKS, ngram_counts
from textgen.evaluation.uncertainty.bootstrap import ratio
from textgen.evaluation.uncertainty.estimate import Exchanged

SetValues = Callable[[Sequence[str], Sequence[str], np.ndarray], tuple[np.ndarray, np.ndarray]]
"""From the texts of two sides, one per prompt, and bool [arrangements, prompts] to the values of both sides."""

Thing = TypeVar("Thing")
_CELLS_AT_ONCE = 1 << 19  # arrangements · columns of a matrix held in memory


def over_samples(values: SetValues) -> Exchanged:
    """A statistic of sets of one text per prompt, as a mean over sets; a part is the texts of one prompt.

    The first samples of one side are compared with the first samples of the other, and so on; a side with fewer starts
    anew. The prompts that are swapped are the same in all sets.
    """

    def exchanged(a: Sequence[Any], b: Sequence[Any], swapped: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        samples = max((len(texts) for texts in (*a, *b)), default=1)
        found = []
        for sample in range(samples):
            first, second = ([texts[sample % len(texts)] for texts in side] for side in (a, b))
            found.append(values(first, second, swapped))
        return np.mean([one for one, _ in found], axis=0), np.mean([other for _, other in found], axis=0)

    return exchanged


def on_side_a(swapped: np.ndarray) -> np.ndarray:
    """Whether each slot is on side a, float32 [arrangements, 2n]."""
    return np.concatenate([~swapped, swapped], axis=1).astype(np.float32)


def in_chunks(rows: np.ndarray, columns: int) -> Iterator[tuple[slice, np.ndarray]]:
    """The rows in groups, so small that a matrix of them and this number of columns fits into memory."""
    step = max(1, _CELLS_AT_ONCE // max(1, columns))
    for first in range(0, len(rows), step):
        yield slice(first, first + step), rows[first : first + step]


def membership(sets: Sequence[tuple[int, ...]], slots: int) -> np.ndarray:
    """Whether each slot is in each set, float32 [slots, sets]."""
    found = np.zeros((slots, len(sets)), dtype=np.float32)
    for column, members in enumerate(sets):
        found[list(members), column] = 1
    return found


def owners(counts: Sequence[Mapping[Thing, int]]) -> dict[Thing, list[int]]:
    """Each thing (word, n-gram) → the slots that have it, ascending."""
    found: dict[Thing, list[int]] = {}
    for slot, count in enumerate(counts):
        for thing in count:
            found.setdefault(thing, []).append(slot)
    return found


def exchanged_distinct(n: int) -> SetValues:
    """Distinct-n (:func:`textgen.evaluation.quality.ngrams.distinct_n`) of both sides in each arrangement."""

    def values(a: Sequence[str], b: Sequence[str], swapped: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        prompts, counts = len(a), [ngram_counts(text, n) for text in (*a, *b)]
        by_owners = Counter(map(tuple, owners(counts).values()))
        single = np.zeros(2 * prompts)
        always, shared = 0, []
        for slots, number in by_owners.items():
            if len(slots) == 1:
                single[slots[0]] += number
            elif len({slot % prompts for slot in slots}) < len(slots):
                always += number  # both texts of a prompt have it, so both sides do
            else:
                shared.append(slots)
        weights = np.array([by_owners[slots] for slots in shared], dtype=np.float64)
        sizes = np.array([len(slots) for slots in shared], dtype=np.float32)
        members = membership(shared, 2 * prompts)
        side = on_side_a(swapped)
        different = np.empty((2, len(swapped)))
        for rows, chunk in in_chunks(side, len(shared)):
            on_a = chunk @ members
            different[0, rows] = (on_a > 0) @ weights
            different[1, rows] = (on_a < sizes) @ weights
        total = np.array([count.total() for count in counts], dtype=np.float64)
        own, all_of_a = side @ single, side @ total
        different += always + np.stack([own, single.sum() - own])
        return ratio(different[0], all_of_a), ratio(different[1], total.sum() - all_of_a)

    return values


def exchanged_zipf(a: Sequence[str], b: Sequence[str], swapped: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The Zipf coefficient (:func:`textgen.evaluation.quality.ngrams.zipf_coefficient`) of both sides."""
    prompts, counts = len(a), [Counter(text.split()) for text in (*a, *b)]
    found = owners(counts)
    most = max((sum(counts[slot][word] for slot in slots) for word, slots in found.items()), default=0)
    most_in_text = max((max(count.values(), default=0) for count in counts), default=0)
    # Of the words that only one text has: how many occur f times in it.
    single = np.zeros((2 * prompts, most_in_text + 1), dtype=np.float32)
    shared = []
    for word, slots in found.items():
        if len(slots) == 1:
            single[slots[0], counts[slots[0]][word]] += 1
        else:
            shared.append(word)
    times = np.zeros((2 * prompts, len(shared)), dtype=np.float32)
    for column, word in enumerate(shared):
        for slot in found[word]:
            times[slot, column] = counts[slot][word]
    total = times.sum(axis=0).astype(np.int64)
    side = on_side_a(swapped)
    slopes = np.empty((2, len(swapped)))
    for rows, chunk in in_chunks(side, len(shared) + most):
        on_a = (chunk @ times).astype(np.int64)
        own = chunk @ single
        first_cell = np.arange(len(chunk))[:, None] * (most + 1)
        for number, (frequencies, alone) in enumerate(((on_a, own), (total - on_a, single.sum(axis=0) - own))):
            cells = (frequencies + first_cell).ravel()
            histogram = np.bincount(cells, minlength=len(chunk) * (most + 1)).reshape(len(chunk), -1)
            histogram[:, : most_in_text + 1] += alone.astype(np.int64)
            slopes[number, rows] = _slopes(histogram)
    return slopes[0], slopes[1]


def _slopes(histogram: np.ndarray) -> np.ndarray:
    """The Zipf coefficient, [rows], from how many words occur f times for each f from 0, [rows, frequencies].

    The words that occur f times have neighboring ranks, so the sum of the logarithms of their ranks is a difference of
    two cumulative sums.
    """
    at_least = np.cumsum(histogram[:, :0:-1], axis=1)  # words that occur at least f times, for f from the largest to 1
    last = np.minimum(at_least, ZIPF_RANKS)
    logs = np.log(np.arange(1, max(1, int(last.max(initial=1))) + 1))
    sums, squares = (np.concatenate([[0.0], np.cumsum(power)]) for power in (logs, logs * logs))
    frequencies = np.log(np.arange(histogram.shape[1] - 1, 0, -1))
    words = last[:, -1] if last.shape[1] else np.zeros(len(histogram), dtype=np.int64)
    rank_sums = (np.diff(sums[last], axis=1, prepend=0.0) * frequencies).sum(axis=1)
    mean_rank = ratio(sums[words], words)
    covariance = rank_sums - mean_rank * (np.diff(last, axis=1, prepend=0) * frequencies).sum(axis=1)
    slopes = ratio(covariance, squares[words] - mean_rank * sums[words])
    return np.where(words < 2, 0.0, np.abs(slopes))
