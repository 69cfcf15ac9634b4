"""MAUVE against its definition, cases whose value is known, and the authors' package if it is installed."""

import math

import numpy as np
import pytest
import torch
from numpy.random import default_rng
from scipy.integrate import quad

from textgen.evaluation.loaded_model import LoadedModel
from textgen.evaluation.quality.mauve import (
    MIN_TEXTS,
    area_under,
    divergence_curve,
    k_means,
    mauve,
    mauve_columns,
    missing_mauve_columns,
    reduce_features,
    text_features,
)


def clouds(sizes: list[int], width: int = 6, seed: int = 0, spread: float = 0.05) -> np.ndarray:
    """Points around random centers, ``sizes[i]`` of them around the i-th."""
    random = default_rng(seed)
    centers = random.normal(size=(len(sizes), width))
    return np.concatenate(
        [center + spread * random.normal(size=(size, width)) for center, size in zip(centers, sizes, strict=True)]
    )


def test_equal_histograms_have_area_one_and_disjoint_ones_almost_none():
    even = np.full(4, 0.25)
    assert area_under(divergence_curve(even, even)) == pytest.approx(1)
    left, right = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    # disjoint: KL(q‖r) = −log(1−λ), KL(p‖r) = −log λ, so the curve is ((1−λ)^5, λ^5)
    expected, _ = quad(lambda weight: weight**5 * 5 * (1 - weight) ** 4, 0, 1)
    assert area_under(divergence_curve(left, right)) == pytest.approx(expected, abs=0.002)
    assert 0 < area_under(divergence_curve(left, right)) < 0.01


def test_the_curve_is_that_of_the_definition_and_falls():
    p, q = np.array([0.5, 0.3, 0.2, 0.0]), np.array([0.1, 0.4, 0.2, 0.3])
    curve = divergence_curve(p, q)
    assert curve.shape == (27, 2)
    assert curve[0].tolist() == [0, 1]
    assert curve[-1].tolist() == [1, 0]
    weight = np.linspace(1 - 1e-6, 1e-6, 25)[7]
    r = weight * p + (1 - weight) * q
    kl_q = sum(b * math.log(b / m) for b, m in zip(q, r, strict=True) if b)
    kl_p = sum(a * math.log(a / m) for a, m in zip(p, r, strict=True) if a)
    assert curve[8] == pytest.approx([math.exp(-5 * kl_q), math.exp(-5 * kl_p)])
    assert (np.diff(curve[:, 0]) >= 0).all()
    assert (np.diff(curve[:, 1]) <= 0).all()


def test_area_of_a_straight_line_is_that_of_the_triangle():
    x = np.linspace(0, 1, 9)
    assert area_under(np.stack([x, 1 - x], axis=1)) == pytest.approx(0.5)


def test_area_is_the_same_over_both_axes():
    random = default_rng(9)
    p, q = random.dirichlet(np.ones(20), size=2)
    curve = divergence_curve(p, q)
    assert area_under(curve) == pytest.approx(area_under(curve[::-1, ::-1]))


def test_k_means_finds_well_separated_clusters():
    data = clouds([30, 50, 20, 40])
    labels = k_means(data, 4, seed=0)
    truth = np.repeat(np.arange(4), [30, 50, 20, 40])
    assert {tuple(sorted(set(labels[truth == cluster]))) for cluster in range(4)} == {(0,), (1,), (2,), (3,)}
    assert np.array_equal(labels, k_means(data, 4, seed=0))


def test_k_means_is_as_good_as_scikit_learn_s():
    cluster = pytest.importorskip("sklearn.cluster")
    data = default_rng(1).normal(size=(400, 5))
    labels = k_means(data, 12, seed=0)
    centers = np.stack([data[labels == label].mean(axis=0) for label in range(12)])
    cost = np.square(data - centers[labels]).sum()
    theirs = cluster.KMeans(12, n_init=5, random_state=0).fit(data).inertia_
    assert cost <= theirs * 1.03


def test_k_means_ends_with_identical_points_and_with_as_many_clusters_as_points():
    assert len(k_means(np.ones((20, 3)), 4, seed=0)) == 20
    assert sorted(k_means(np.eye(3), 3, seed=0).tolist()) == [0, 1, 2]


def test_reduction_keeps_nine_tenths_of_the_variance_of_unit_vectors():
    random = default_rng(2)
    data = random.normal(size=(200, 8)) * np.array([10, 9, 8, 1, 0.1, 0.1, 0.1, 0.1])
    unit = data / np.linalg.norm(data, axis=1, keepdims=True)
    kept = reduce_features(data)
    whole = np.square(unit - unit.mean(axis=0)).sum()
    assert 0.9 <= np.square(kept).sum() / whole < 1
    assert kept.shape[1] == 3
    assert reduce_features(np.ones((5, 2))).tolist() == [[0.0]] * 5


def test_mauve_is_near_one_for_one_source_and_far_from_it_for_two():
    one, two = (clouds([100, 100, 100, 100], seed=3, spread=0.3)[default_rng(n).permutation(400)] for n in (0, 1))
    assert mauve(one[:200], one[200:], seed=0) > 0.9
    assert mauve(one[:200], two[:200] + 9, seed=0) < 0.05
    missing_half = clouds([100, 100, 100, 100], seed=3, spread=0.3)[:200]
    partly = mauve(one, missing_half, seed=0)
    assert 0.05 < partly < 0.9


def test_mauve_agrees_with_the_authors_package():
    package = pytest.importorskip("mauve")
    random = default_rng(4)
    for shift in (0.0, 0.3, 0.6):
        p, q = random.normal(size=(500, 12)), random.normal(size=(500, 12))
        q[:, :4] += shift
        mine = np.mean([mauve(p, q, seed=seed) for seed in range(5)])
        theirs = np.mean(
            [package.compute_mauve(p_features=p, q_features=q, seed=seed, verbose=False).mauve for seed in range(5)]
        )
        assert mine == pytest.approx(theirs, abs=0.04)


def test_columns_are_the_mean_and_spread_over_seeds_or_the_reason_why_there_is_no_value():
    data = default_rng(5).normal(size=(2 * MIN_TEXTS + 20, 4))
    row = mauve_columns(data[:MIN_TEXTS], data[MIN_TEXTS:], seed=0)
    assert 0 < row["mauve"] <= 1
    assert 0 < row["mauve_spread"] < 0.2
    assert row["mauve_texts"] == MIN_TEXTS
    assert row["mauve_reason"] is None
    values = [mauve(data[:MIN_TEXTS], data[MIN_TEXTS:], seed=seed) for seed in range(5)]
    assert row["mauve"] == pytest.approx(np.mean(values))
    missing = missing_mauve_columns(16, "too few")
    assert missing == {"mauve": None, "mauve_spread": None, "mauve_texts": 16, "mauve_reason": "too few"}
    assert missing.keys() == row.keys()


@pytest.mark.parametrize("architecture", ["tiny_gpt2", "tiny_llama"])
def test_features_are_the_last_layer_s_state_at_the_last_token(accelerator, tokenizer, request, architecture):
    model = request.getfixturevalue(architecture)(0).eval()
    sequences = [[5, 6, 7], [8], [9, 10, 11, 12, 13], [], list(range(1, 90))]
    found = text_features(LoadedModel(accelerator, model, tokenizer, context=64), sequences)
    for sequence, feature in zip(sequences, found, strict=True):
        if sequence:
            with torch.no_grad():
                output = model(torch.tensor([sequence[-64:]]), output_hidden_states=True)
            assert feature == pytest.approx(output.hidden_states[-1][0, -1].numpy(), abs=1e-5)
        else:
            assert not feature.any()


def test_two_processes_compute_the_features_of_one(one_and_two_processes):
    one, (two, other) = one_and_two_processes
    assert two["features"] == other["features"]
    assert np.array(two["features"]) == pytest.approx(np.array(one["features"]), rel=1e-5)
    assert np.shape(two["features"]) == (10, 32)
