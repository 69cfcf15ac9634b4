"""MAUVE: how near two sets of texts are as distributions (Pillutla et al., arXiv 2102.01454).

Both sets are turned into histograms over clusters of a language model's features, and the area under the curve of the
two divergences from their mixtures is between 0 and 1, 1 for equal histograms. It needs many texts: with few, the
clusters are few and two samples of one source look unlike by chance, and the number also moves with the size of the
sets, so compare at equal size only. Holds against the authors' package up to its choice of k-means (theirs is faiss's).
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object

from textgen.evaluation.loaded_model import LoadedModel
from textgen.evaluation.sharing import pack_batches, share_batches
from textgen.model.contexts import evaluating
from textgen.model.layers import without_adapters

LEAST = 100
"""Texts a set from which on MAUVE is computed, which makes ten clusters; the paper used 5,000."""
SEEDS = 5  # of k-means, whose spread is reported
SCALING = 5.0  # the paper's c
EXPLAINED = 0.9  # share of the variance that is kept before clustering, as in the authors' package
RESTARTS, ITERATIONS = 5, 100  # of k-means
WEIGHTS = 25  # points on the curve
_MAX_TOKENS = 4096


def mauve(human: np.ndarray, machine: np.ndarray, *, seed: int) -> float:
    """MAUVE of two sets of features, [texts, width] each, with k = n/10 clusters, n the size of the smaller set.

    Features are scaled to unit length, reduced by PCA to 90 % of their variance and clustered by k-means, as in the
    authors' package.
    """
    clusters = max(2, round(min(len(human), len(machine)) / 10))
    data = reduced(np.concatenate([machine, human]).astype(np.float64))
    labels = k_means(data, clusters, seed=seed)
    q, p = (
        np.bincount(part, minlength=clusters) / len(part) for part in (labels[: len(machine)], labels[len(machine) :])
    )
    return area(divergence_curve(p, q))


def divergence_curve(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Points (exp(−c·KL(q‖r)), exp(−c·KL(p‖r))) for mixtures r = λp + (1−λ)q: [points, 2], from (0, 1) to (1, 0).

    Equation 2 of arXiv 2102.01454, with c = 5 and the mixtures and the ends of the authors' package; λ falls.
    """
    points = [(0.0, 1.0)]
    for weight in np.linspace(1 - 1e-6, 1e-6, WEIGHTS):
        mixture = weight * p + (1 - weight) * q
        points.append((math.exp(-SCALING * _divergence(q, mixture)), math.exp(-SCALING * _divergence(p, mixture))))
    return np.array([*points, (1.0, 0.0)])


def _divergence(p: np.ndarray, r: np.ndarray) -> float:
    """KL(p‖r) in nats, where r is positive wherever p is."""
    where = p > 0
    return max(0.0, float((p[where] * np.log(p[where] / r[where])).sum()))


def area(curve: np.ndarray) -> float:
    """Area under a curve of points [points, 2] that goes from (0, 1) to (1, 0), by trapezoids.

    In the order of the curve: sorted by one axis, as in the authors' package, points of equal x would lie in any order.
    (Over the other axis the trapezoids have the same area, so there is nothing to average.)
    """
    x, y = curve.T
    return float(np.trapezoid(y, x))


def reduced(features: np.ndarray) -> np.ndarray:
    """Features [texts, width] of unit length on as many principal components as hold 90 % of the variance."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    unit = features / np.where(lengths > 0, lengths, 1.0)
    centred = unit - unit.mean(axis=0)
    left, singular, _ = np.linalg.svd(centred, full_matrices=False)
    variance = np.square(singular)
    if variance.sum() == 0:
        return np.zeros((len(features), 1))
    enough = int(np.argmax(np.cumsum(variance) / variance.sum() >= EXPLAINED)) + 1
    return left[:, :enough] * singular[:enough]


def k_means(data: np.ndarray, clusters: int, *, seed: int) -> np.ndarray:
    """Labels [items] of the best of several runs of Lloyd's algorithm (1982), each from k-means++ beginnings.

    A cluster that loses all its items gets the one that is farthest from its own centre. Arthur & Vassilvitskii 2007.
    """
    random = np.random.default_rng(seed)
    best_labels, best_cost = np.zeros(len(data), dtype=np.int64), math.inf
    for _ in range(RESTARTS):
        centres = _beginnings(data, clusters, random)
        labels = np.full(len(data), -1)
        for _ in range(ITERATIONS):
            distances = _squared_distances(data, centres)
            nearest = distances.argmin(axis=1)
            if np.array_equal(nearest, labels):
                break
            labels = nearest
            own = distances[np.arange(len(data)), labels]
            for empty in np.flatnonzero(np.bincount(labels, minlength=clusters) == 0):
                farthest = int(own.argmax())
                labels[farthest], own[farthest] = empty, -1.0
            sizes = np.bincount(labels, minlength=clusters)
            sums = np.zeros_like(centres)
            np.add.at(sums, labels, data)
            centres = sums / np.maximum(sizes, 1)[:, None]
        cost = float(np.square(data - centres[labels]).sum())
        if cost < best_cost:
            best_labels, best_cost = labels, cost
    return best_labels


def _beginnings(data: np.ndarray, clusters: int, random: np.random.Generator) -> np.ndarray:
    """Items [clusters, width], each drawn with probability in proportion to its squared distance from those before."""
    chosen = [int(random.integers(len(data)))]
    distances = _squared_distances(data, data[chosen])[:, 0]
    while len(chosen) < clusters:
        total = distances.sum()
        # Where all that is left are copies of what was chosen, any will do.
        shares = distances / total if total > 0 else np.full(len(data), 1 / len(data))
        chosen.append(int(random.choice(len(data), p=shares)))
        distances = np.minimum(distances, _squared_distances(data, data[chosen[-1:]])[:, 0])
    return data[chosen]


def _squared_distances(data: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """[items, centres], without ever holding the differences."""
    squared = np.square(data).sum(axis=1)[:, None] - 2 * data @ centres.T + np.square(centres).sum(axis=1)
    return np.maximum(squared, 0.0)


def mauve_columns(human: np.ndarray | None, machine: np.ndarray | None, texts: int, *, seed: int) -> dict[str, Any]:
    """What a row says: mauve, the mean over ``SEEDS`` seeds of k-means; mauve_spread, their standard deviation;
    mauve_texts, the number of texts in the smaller set; and mauve_reason, why there is no value where there is none.
    """
    if texts < LEAST:
        reason = f"{texts} continuations; from {LEAST} on it says something (--prompts)"
        return {"mauve": None, "mauve_spread": None, "mauve_texts": texts, "mauve_reason": reason}
    assert human is not None
    assert machine is not None
    values = [mauve(human, machine, seed=seed + number) for number in range(SEEDS)]
    spread = float(np.std(values, ddof=1))
    return {"mauve": float(np.mean(values)), "mauve_spread": spread, "mauve_texts": texts, "mauve_reason": None}


def features(loaded: LoadedModel, sequences: Sequence[Sequence[int]], context: int | None = None) -> np.ndarray:
    """The last layer's state at the last token of each sequence, [sequences, width], float32.

    The last ``context`` tokens of a sequence are read, all if None; an empty sequence has zeros. The same on every
    process. No logits are computed.
    """
    body = without_adapters(loaded.model).base_model
    cut = [tuple(sequence if context is None else sequence[-context:]) for sequence in sequences]
    order = sorted((index for index, one in enumerate(cut) if one), key=lambda index: (-len(cut[index]), index))
    batches = pack_batches(order, [(0, len(one)) for one in cut], _MAX_TOKENS)
    mine: list[tuple[int, np.ndarray]] = []
    with evaluating(loaded.model), torch.no_grad():
        for _, batch, counts in share_batches(loaded.accelerator, batches):
            longest = len(cut[batch[0]])
            ids = torch.tensor([[*cut[index], *[0] * (longest - len(cut[index]))] for index in batch])
            lengths = torch.tensor([len(cut[index]) for index in batch])
            mask = (torch.arange(longest) < lengths[:, None]).long()
            states = body(
                input_ids=ids.to(loaded.device), attention_mask=mask.to(loaded.device), use_cache=False
            ).last_hidden_state
            last = states[torch.arange(len(batch)), lengths - 1].float().cpu().numpy()
            if counts:
                mine += zip(batch, last, strict=True)
    found = dict(gather_object(mine))
    width = len(next(iter(found.values()))) if found else 1
    return np.stack([found.get(index, np.zeros(width, np.float32)) for index in range(len(cut))])
