"""Which tokens a sampling strategy keeps: pure functions from log-probabilities to masks, a row at a time.

Every rule is a threshold on a score of the tokens, so tokens with the very same score are kept or dropped together, and
the kept set does not depend on the order in which a sort happens to leave them. Rules that accumulate (top-p, typical,
top-H) sort no more than they must: the best few hundred tokens usually prove the threshold; a row where they do not is
sorted whole. Both ways give the same set.
"""

from collections.abc import Callable

import torch

from textgen.evaluation.decoding.strategies import Strategy

_FEW = 512  # tokens that are sorted in the hope that they prove the threshold

# (log_probs [rows, vocabulary], setting [rows, 1], float64) → bool [rows, vocabulary]
Rule = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
# (log-probabilities in order [rows, n], which rows) → where the last kept one is [rows, 1], and whether that is certain
Last = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


def is_truncation(strategy: Strategy) -> bool:
    """Whether the strategy draws from a function of the model's next-token distribution alone."""
    return strategy.decoder == "tokens" and strategy.family in TRUNCATIONS


def truncate(strategy: Strategy, log_probs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The distribution at the strategy's temperature, and the tokens of it that the strategy keeps.

    Args:
        strategy: one for which :func:`is_truncation`.
        log_probs: the model's own, normalised, at temperature 1: [rows, vocabulary], float32 or float64.

    Returns:
        Log-probabilities [rows, vocabulary], and a bool mask of the same shape with at least one True in each row.
    """
    temperature = float(strategy.settings.get("temperature", 1.0))
    own = log_probs if temperature == 1.0 else (log_probs / temperature).log_softmax(dim=-1)
    value = float(strategy.settings[strategy.main_setting]) if strategy.main_setting else 1.0
    setting = torch.full((len(log_probs), 1), value, dtype=torch.float64, device=log_probs.device)
    return own, keep_mask(strategy.family, own, setting)


def keep_mask(family: str, log_probs: torch.Tensor, setting: torch.Tensor) -> torch.Tensor:
    """The tokens that a family's rule keeps, with a setting for each row: bool [rows, vocabulary].

    ``log_probs`` [rows, vocabulary] are normalised, with the temperature applied; ``setting`` is [rows, 1].
    """
    return TRUNCATIONS[family](log_probs, setting)


def entropy(log_probs: torch.Tensor) -> torch.Tensor:
    """Entropy in nats, [rows, 1]; a token of probability 0 adds nothing."""
    return -_surprise(log_probs).sum(dim=-1, keepdim=True)


def _surprise(log_probs: torch.Tensor) -> torch.Tensor:
    return log_probs.exp() * log_probs.clamp(min=torch.finfo(log_probs.dtype).min)  # p·log p, 0 where p is


def _everything(log_probs: torch.Tensor, setting: torch.Tensor) -> torch.Tensor:
    return torch.ones_like(log_probs, dtype=torch.bool)


def _top_k(log_probs: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    widest = min(int(k.max()), log_probs.shape[-1])
    best = log_probs.topk(widest, dim=-1).values
    return log_probs >= best.gather(1, (k.long() - 1).clamp(max=widest - 1))


def _top_p(log_probs: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    """The fewest most probable tokens whose probabilities sum to at least p (arXiv 1904.09751, equation 2)."""
    return log_probs >= -_threshold(-log_probs, log_probs, _holding(p))


def _typical(log_probs: torch.Tensor, mass: torch.Tensor) -> torch.Tensor:
    """The fewest tokens nearest in surprise to the entropy that hold the mass (arXiv 2202.00666, section 4)."""
    distance = (-log_probs - entropy(log_probs)).abs()
    return distance <= _threshold(distance, log_probs, _holding(mass))


def _epsilon(log_probs: torch.Tensor, epsilon: torch.Tensor) -> torch.Tensor:
    """p ≥ ε; the most probable token if there is none (arXiv 2210.15191)."""
    return _or_best(log_probs >= epsilon.log().to(log_probs.dtype), log_probs)


def _eta(log_probs: torch.Tensor, epsilon: torch.Tensor) -> torch.Tensor:
    """p ≥ min(ε, √ε·exp(−H)); the most probable token if there is none (arXiv 2210.15191, with its α = √ε)."""
    threshold = torch.minimum(epsilon.log(), 0.5 * epsilon.log() - entropy(log_probs))
    return _or_best(log_probs >= threshold.to(log_probs.dtype), log_probs)


def _min_p(log_probs: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """p ≥ share · max p (arXiv 2407.01082)."""
    return log_probs >= share.log().to(log_probs.dtype) + log_probs.amax(dim=-1, keepdim=True)


def _top_n_sigma(log_probs: torch.Tensor, n: torch.Tensor) -> torch.Tensor:
    """logit ≥ max − n·σ, with σ over the vocabulary (arXiv 2411.07641): no shift of the logits matters, and no
    temperature, so log-probabilities do as well."""
    deviation = log_probs.std(dim=-1, keepdim=True, correction=0)
    return _or_best(log_probs >= log_probs.amax(dim=-1, keepdim=True) - n.to(log_probs.dtype) * deviation, log_probs)


def _top_h(log_probs: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    """As many of the most probable tokens as have H(q) ≤ α·H(p), q their renormalised distribution (arXiv 2509.02510,
    algorithm 1).

    With mass Γ, H(q) = log Γ − (Σ p·log p) / Γ. A further token, never more probable than those before it, cannot lower
    that, so to stop at the first excess, as the algorithm does, is to count the prefixes within the bound. (At α = 1
    that is all of them, whatever rounding says.)
    """
    bound = alpha * entropy(log_probs)

    def last(ordered: torch.Tensor, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        ordered = ordered.double()
        mass = ordered.exp().cumsum(dim=-1)
        within = mass.log() - _surprise(ordered).cumsum(dim=-1) / mass <= bound[rows]
        count = (within | (alpha[rows] >= 1)).sum(dim=-1, keepdim=True)
        return (count - 1).clamp(min=0), count < ordered.shape[-1]

    return log_probs >= -_threshold(-log_probs, log_probs, last)


def _p_less(log_probs: torch.Tensor, setting: torch.Tensor) -> torch.Tensor:
    """p ≥ Σ p², the probability that two draws agree (arXiv 2509.23234); only rounding can leave none."""
    return _or_best(log_probs >= (2 * log_probs).logsumexp(dim=-1, keepdim=True), log_probs)


def _or_best(mask: torch.Tensor, log_probs: torch.Tensor) -> torch.Tensor:
    return mask.scatter_(1, log_probs.argmax(dim=-1, keepdim=True), True)


def _holding(share: torch.Tensor) -> Last:
    """The last token needed for a share [all rows, 1] of the probability; of a share of 1, every token is."""

    def last(ordered: torch.Tensor, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        wanted = share[rows]
        short = (ordered.double().exp().cumsum(dim=-1) < wanted) | (wanted >= 1)
        count = short.sum(dim=-1, keepdim=True)
        return count.clamp(max=ordered.shape[-1] - 1), count < ordered.shape[-1]

    return last


def _threshold(score: torch.Tensor, log_probs: torch.Tensor, last: Last) -> torch.Tensor:
    """The score [rows, 1] of the last token kept, where tokens are kept from the lowest score on; no full sort, if the
    first few settle it."""
    few = min(_FEW, score.shape[-1])
    rows = torch.arange(len(score), device=score.device)
    best, where = score.topk(few, dim=-1, largest=False)
    index, certain = last(log_probs.gather(1, where), rows)
    threshold = best.gather(1, index)
    unsettled = rows[~certain[:, 0]]
    if few < score.shape[-1] and len(unsettled):
        best, where = score[unsettled].sort(dim=-1)
        index, _ = last(log_probs[unsettled].gather(1, where), unsettled)
        threshold[unsettled] = best.gather(1, index)
    return threshold


# Family of strategies → its rule.
TRUNCATIONS: dict[str, Rule] = {
    "temperature": _everything,
    "top_k": _top_k,
    "top_p": _top_p,
    "typical": _typical,
    "epsilon": _epsilon,
    "eta": _eta,
    "min_p": _min_p,
    "top_n_sigma": _top_n_sigma,
    "top_h": _top_h,
    "p_less": _p_less,
}
