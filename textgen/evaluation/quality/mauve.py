"""MAUVE: how close two sets of texts are as distributions (Pillutla et al., arXiv 2102.01454).

A language model's features of both sets are clustered together, so that each set becomes a histogram over clusters. The
KL divergences of both histograms from their mixtures draw a curve, and MAUVE is the area under it: between 0 and 1, and
1 for equal histograms. It needs many texts: with few, there are few clusters and two samples of one source look
different by chance. It also depends on the number of texts, so compare only sets of equal size.

Agrees with the authors' package (mauve-text, GPLv3) up to k-means, for which theirs uses faiss.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object

from textgen.evaluation.batching import pack_batches, share_batches
from textgen.evaluation.loaded_model import LoadedModel
from textgen.model.contexts import evaluating
from textgen.model.layers import without_adapters

MIN_TEXTS = 100
"""Texts per set below which MAUVE is not computed; it makes ten clusters. The paper used 5,000."""
KMEANS_SEEDS = 5  # MAUVE is their mean, and its spread over them is reported
SCALING = 5.0  # the paper's c
EXPLAINED_VARIANCE = 0.9  # share of the variance that PCA keeps, as in the authors' package
RESTARTS, MAX_ITERATIONS = 5, 100  # of k-means
MIXTURES = 25  # points on the curve
_MAX_TOKENS = 4096  # in a batch, padding included


def mauve_columns(human: np.ndarray, machine: np.ndarray, *, seed: int) -> dict[str, Any]:
    """The columns of ``decoding.json`` for features of two sets of texts, [texts, width] each.

    Keys: mauve, the mean over :data:`KMEANS_SEEDS` seeds of k-means; mauve_spread, their standard deviation;
    mauve_texts, the number of texts in the smaller set; and mauve_reason, None.
    """
    values = [mauve(human, machine, seed=seed + number) for number in range(KMEANS_SEEDS)]
    return {
        "mauve": float(np.mean(values)),
        "mauve_spread": float(np.std(values, ddof=1)),
        "mauve_texts": min(len(human), len(machine)),
        "mauve_reason": None,
    }


def missing_mauve_columns(texts: int, reason: str) -> dict[str, Any]:
    """The same columns without a value, and why there is none."""
    return {"mauve": None, "mauve_spread": None, "mauve_texts": texts, "mauve_reason": reason}


def mauve(human: np.ndarray, machine: np.ndarray, *, seed: int) -> float:
    """MAUVE of two sets of features, [texts, width] each, with n/10 clusters for n texts in the smaller set.

    Features are scaled to unit length, reduced by PCA to 90 % of their variance, and clustered by k-means, as in the
    authors' package.
    """
    clusters = max(2, round(min(len(human), len(machine)) / 10))
    data = reduce_features(np.concatenate([machine, human]).astype(np.float64))
    labels = k_means(data, clusters, seed=seed)
    q, p = (
        np.bincount(part, minlength=clusters) / len(part) for part in (labels[: len(machine)], labels[len(machine) :])
    )
    return area_under(divergence_curve(p, q))


def divergence_curve(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Points (exp(−c·KL(q‖r)), exp(−c·KL(p‖r))) for mixtures r = λp + (1−λ)q: [points, 2], from (0, 1) to (1, 0).

    Equation 2 of arXiv 2102.01454, with c = 5 and the mixtures and end points of the authors' package; λ decreases.
    """
    points = [(0.0, 1.0)]
    for weight in np.linspace(1 - 1e-6, 1e-6, MIXTURES):
        mixture = weight * p + (1 - weight) * q
        points.append((math.exp(-SCALING * _divergence(q, mixture)), math.exp(-SCALING * _divergence(p, mixture))))
    return np.array([*points, (1.0, 0.0)])


def _divergence(p: np.ndarray, r: np.ndarray) -> float:
    """KL(p‖r) in nats; r must be positive wherever p is."""
    where = p > 0
    return max(0.0, float((p[where] * np.log(p[where] / r[where])).sum()))


def area_under(curve: np.ndarray) -> float:
    """Area under a curve of points [points, 2] from (0, 1) to (1, 0), by the trapezoidal rule.

    In the order of the points. The authors' package sorts them by one axis, so points of equal x can be in any order.
    (It also averages over both axes; the trapezoids over the other axis have the same area.)
    """
    x, y = curve.T
    return float(np.trapezoid(y, x))


def reduce_features(features: np.ndarray) -> np.ndarray:
    """Features [texts, width], scaled to unit length, on the principal components that hold 90 % of their variance."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    unit = features / np.where(lengths > 0, lengths, 1.0)
    centered = unit - unit.mean(axis=0)
    left, singular, _ = np.linalg.svd(centered, full_matrices=False)
    variance = np.square(singular)
    if variance.sum() == 0:
        return np.zeros((len(features), 1))
    enough = int(np.argmax(np.cumsum(variance) / variance.sum() >= EXPLAINED_VARIANCE)) + 1
    return left[:, :enough] * singular[:enough]


def k_means(data: np.ndarray, clusters: int, *, seed: int) -> np.ndarray:
    """Cluster labels [items] of data [items, width]: the best of several runs of k-means.

    Lloyd's algorithm (1982), initialized by k-means++ (Arthur & Vassilvitskii 2007). A cluster that loses all its items
    gets the one that is farthest from its own center.
    """
    random = np.random.default_rng(seed)
    best_labels, best_cost = np.zeros(len(data), dtype=np.int64), math.inf
    for _ in range(RESTARTS):
        centers = _initial_centers(data, clusters, random)
        labels = np.full(len(data), -1)
        for _ in range(MAX_ITERATIONS):
            distances = _squared_distances(data, centers)
            nearest = distances.argmin(axis=1)
            if np.array_equal(nearest, labels):
                break
            labels = nearest
            own = distances[np.arange(len(data)), labels]
            for empty in np.flatnonzero(np.bincount(labels, minlength=clusters) == 0):
                farthest = int(own.argmax())
                labels[farthest], own[farthest] = empty, -1.0
            sizes = np.bincount(labels, minlength=clusters)
            sums = np.zeros_like(centers)
            np.add.at(sums, labels, data)
            centers = sums / np.maximum(sizes, 1)[:, None]
        cost = float(np.square(data - centers[labels]).sum())
        if cost < best_cost:
            best_labels, best_cost = labels, cost
    return best_labels


def _initial_centers(data: np.ndarray, clusters: int, random: np.random.Generator) -> np.ndarray:
    """k-means++: items [clusters, width], each drawn in proportion to its squared distance from the ones before."""
    chosen = [int(random.integers(len(data)))]
    distances = _squared_distances(data, data[chosen])[:, 0]
    while len(chosen) < clusters:
        total = distances.sum()
        # If only copies of chosen items are left, draw any.
        shares = distances / total if total > 0 else np.full(len(data), 1 / len(data))
        chosen.append(int(random.choice(len(data), p=shares)))
        distances = np.minimum(distances, _squared_distances(data, data[chosen[-1:]])[:, 0])
    return data[chosen]


def _squared_distances(data: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """Squared distances [items, centers], without an array of all differences."""
    squared = np.square(data).sum(axis=1)[:, None] - 2 * data @ centers.T + np.square(centers).sum(axis=1)
    return np.maximum(squared, 0.0)


def text_features(loaded: LoadedModel, sequences: Sequence[Sequence[int]]) -> np.ndarray:
    """The last layer's hidden state at the last token of each sequence of token ids: [sequences, width], float32.

    If a sequence is longer than the model's context, its last tokens are read; an empty sequence gives zeros. The same
    on every process. No logits are computed.
    """
    body = without_adapters(loaded.model).base_model
    cut = [tuple(sequence[-loaded.context :]) for sequence in sequences]
    order = sorted((index for index, one in enumerate(cut) if one), key=lambda index: (-len(cut[index]), index))
    batches = pack_batches(order, [(0, len(one)) for one in cut], _MAX_TOKENS)
    mine: list[tuple[int, np.ndarray]] = []
    with evaluating(loaded.model), torch.no_grad():
        for _, batch in share_batches(loaded.accelerator, batches):
            longest = len(cut[batch[0]])
            ids = torch.tensor([[*cut[index], *[0] * (longest - len(cut[index]))] for index in batch])
            lengths = torch.tensor([len(cut[index]) for index in batch])
            mask = (torch.arange(longest) < lengths[:, None]).long()
            states = body(
                input_ids=ids.to(loaded.device), attention_mask=mask.to(loaded.device), use_cache=False
            ).last_hidden_state
            last = states[torch.arange(len(batch)), lengths - 1].float().cpu().numpy()
            mine += zip(batch, last, strict=True)
    found = dict(gather_object(mine))
    width = len(next(iter(found.values()))) if found else 1
    return np.stack([found.get(index, np.zeros(width, np.float32)) for index in range(len(cut))])
