"""Self-BLEU of sets that exchanged texts: the scores of each pair of sets."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textgen.evaluation.quality import exchanged_sets
from textgen.evaluation.quality.exchanged_self_bleu import exchanged_self_bleu
from textgen.evaluation.quality.self_bleu import self_bleu_scores
from textgen.evaluation.uncertainty.label_swap import arrangements

text = st.lists(st.sampled_from("aaabbcd"), max_size=9).map(" ".join)
pairs_of_sets = st.integers(1, 5).flatmap(lambda n: st.tuples(*[st.lists(text, min_size=n, max_size=n)] * 2))


def by_definition(a: Sequence[str], b: Sequence[str], swapped: np.ndarray, n: int) -> np.ndarray:
    found = []
    for row in swapped:
        sides = zip(*((y, x) if swap else (x, y) for x, y, swap in zip(a, b, row, strict=True)), strict=True)
        found.append([self_bleu_scores(side, n).mean() for side in sides])
    return np.array(found).T


@settings(max_examples=80, deadline=None)
@given(pairs_of_sets, st.integers(1, 4))
def test_every_arrangement_has_the_mean_of_the_scores(sets, n):
    swapped = arrangements(len(sets[0]), seed=0)
    found = exchanged_self_bleu(n)(*sets, swapped)
    assert np.array(found) == pytest.approx(by_definition(*sets, swapped, n), abs=1e-9)


def test_longer_texts_of_different_lengths_in_small_pieces(random_texts, monkeypatch):
    texts = [one[: 20 + 7 * place] for place, one in enumerate(random_texts(24, 60, 12, seed=4))]
    swapped = arrangements(12, seed=0)[::40]
    whole = exchanged_self_bleu(4)(texts[:12], texts[12:], swapped)
    assert np.array(whole) == pytest.approx(by_definition(texts[:12], texts[12:], swapped, 4), abs=1e-9)
    monkeypatch.setattr(exchanged_sets, "_CELLS_AT_ONCE", 1_000)
    assert np.array_equal(whole, exchanged_self_bleu(4)(texts[:12], texts[12:], swapped))
