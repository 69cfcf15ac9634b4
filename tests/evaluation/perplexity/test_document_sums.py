"""Sums of one window by hand, and adding up sums in any order."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from textgen.evaluation.perplexity.document_sums import TokenSums, add_up, exact_sums, sum_window, without_bins
from textgen.evaluation.perplexity.token_windows import TokenWindow
from textgen.model.token_scores import TokenScores

WINDOW = TokenWindow(  # reads five tokens and scores the last four of six, with 2, 3, 4 and 5 tokens of context
    inputs=np.array([7, 1, 2, 3, 4]), targets=np.array([2, 3, 4, 5]), owners=np.array([3, 3, 3, 8])
)
SCORES = TokenScores(
    nll=torch.tensor([1.0, 5.0, 2.0, 4.0]),
    likeliest=torch.tensor([2, 9, 4, 6]),
    confidence=torch.tensor([0.35, 0.99, 1.0, 0.3125]),
    among_top=torch.tensor([True, False, True, True]),
)


def test_sums_of_a_window_by_hand():
    score = sum_window(WINDOW, SCORES)
    first, second = score.sums
    assert (first.nll, first.tokens, first.top_1, first.top_5) == (8.0, 3, 2, 2)
    assert (second.nll, second.tokens, second.top_1, second.top_5) == (4.0, 1, 0, 1)
    assert first.by_position == [[1, 1, 1.0], [2, 2, 7.0]]  # after 2 tokens; after 3 and 4
    assert second.by_position == [[3, 1, 4.0]]
    assert first.by_confidence == [[3, 1, 1.0, pytest.approx(0.35)], [9, 2, 1.0, pytest.approx(1.99)]]
    assert [row[:3] for row in score.hardest] == [[5.0, 1, 9], [4.0, 3, 6], [2.0, 2, 4], [1.0, 0, 2]]


@pytest.mark.parametrize(("context", "number"), [(1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (1024, 10), (1025, 11)])
def test_ranges_of_positions_are_powers_of_two(context, number):
    window = TokenWindow(np.zeros(context, np.int64), np.array([2]), np.array([0]))
    scores = TokenScores(*(values[:1] for values in vars(SCORES).values()))
    [sums] = sum_window(window, scores).sums
    assert sums.by_position == [[number, 1, 1.0]]


def random_parts() -> list[TokenSums]:
    random = np.random.default_rng(0)
    return [
        TokenSums(
            *(random.normal() * 10.0 ** random.integers(-6, 6), 3, 1, 2),
            by_position=[[int(n), 1, random.normal()] for n in random.choice(6, 3, replace=False)],
            by_confidence=[[int(n), 1, 1.0, random.random()] for n in random.choice(10, 2, replace=False)],
        )
        for _ in range(40)
    ]


def test_adding_up_does_not_depend_on_the_order():
    parts = random_parts()
    whole = add_up(parts)
    assert add_up(parts[::-1]) == whole
    assert whole.tokens == 120
    assert sum(row[1] for row in whole.by_position) == 120
    assert whole.nll == math.fsum(part.nll for part in parts)
    empty = add_up([])
    assert (empty.nll, empty.tokens, empty.by_position) == (0.0, 0, [])


def test_sums_of_parts_add_up_to_the_same_bits():
    parts = random_parts()
    rounded = add_up([add_up(parts[:13]), add_up(parts[13:])])
    assert add_up([*exact_sums(parts[:13]), *exact_sums(parts[13:])]) == add_up(parts) != rounded
    assert exact_sums(parts[:1]) == [add_up(parts[:1])]
    [broken] = exact_sums([parts[0], replace(parts[1], nll=math.inf)])
    assert broken.nll == math.inf


def test_sums_without_bins_keep_the_rest():
    [part, *_] = random_parts()
    assert without_bins(part) == TokenSums(part.nll, part.tokens, part.top_1, part.top_5, [], [])
