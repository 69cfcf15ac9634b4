"""Truncation rules of sampling strategies: pure functions from log-probabilities to the tokens kept, row by row.

Every rule is a threshold on a score of the tokens, so tokens with equal scores are kept or dropped together, and the
result does not depend on how a sort orders ties. Rules that accumulate probability (top-p, typical, top-H) sort only
the best few hundred tokens, which usually determines the threshold; rows where it does not are sorted completely. Both
give the same tokens.
"""

from collections.abc import Callable

import torch

from textgen.evaluation.decoding.strategies import Strategy

_PARTIAL_SORT = 512  # number of tokens sorted at first

# (log_probs [rows, vocabulary], setting [rows, 1], float64) → bool [rows, vocabulary]
Truncation = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
# (log-probabilities, best scores first [rows, n], indices of these rows [rows])
# → index of the last token kept [rows, 1], and whether these n tokens suffice to know it, bool [rows, 1]
FindLast = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


def is_truncation(strategy: Strategy) -> bool:
    """Whether the strategy samples from a function of the model's next-token distribution alone."""
    return strategy.decoder == "tokens" and strategy.family in TRUNCATIONS


def truncate(strategy: Strategy, log_probs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The distribution at the strategy's temperature, and which tokens of it the strategy keeps.

    Args:
        strategy: a strategy for which :func:`is_truncation` is true.
        log_probs: the model's normalized log-probabilities at temperature 1, [rows, vocabulary], float32 or float64.

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

    ``log_probs`` [rows, vocabulary] are normalized, with the temperature applied; ``setting`` is [rows, 1].
    """
    return TRUNCATIONS[family](log_probs, setting)


def entropy(log_probs: torch.Tensor) -> torch.Tensor:
    """Entropy in nats, [rows, 1]; a token of probability 0 adds nothing."""
    return -_p_log_p(log_probs).sum(dim=-1, keepdim=True)


def _p_log_p(log_probs: torch.Tensor) -> torch.Tensor:
    return log_probs.exp() * log_probs.clamp(min=torch.finfo(log_probs.dtype).min)  # 0, not NaN, where p is 0


def _keep_all(log_probs: torch.Tensor, setting: torch.Tensor) -> torch.Tensor:
    return torch.ones_like(log_probs, dtype=torch.bool)


def _top_k(log_probs: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    largest = min(int(k.max()), log_probs.shape[-1])
    best = log_probs.topk(largest, dim=-1).values
    return log_probs >= best.gather(1, (k.long() - 1).clamp(max=largest - 1))


def _top_p(log_probs: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    """The fewest most probable tokens whose probabilities sum to at least p (arXiv 1904.09751, equation 2)."""
    return log_probs >= -_threshold(-log_probs, log_probs, _until_mass(p))


def _typical(log_probs: torch.Tensor, mass: torch.Tensor) -> torch.Tensor:
    """The fewest tokens with surprisal closest to the entropy whose probabilities sum to at least the mass (arXiv
    2202.00666, section 4)."""
    distance = (-log_probs - entropy(log_probs)).abs()
    return distance <= _threshold(distance, log_probs, _until_mass(mass))


def _epsilon(log_probs: torch.Tensor, epsilon: torch.Tensor) -> torch.Tensor:
    """p ≥ ε; the most probable token if there is none (arXiv 2210.15191)."""
    return or_best(log_probs >= epsilon.log().to(log_probs.dtype), log_probs)


def _eta(log_probs: torch.Tensor, epsilon: torch.Tensor) -> torch.Tensor:
    """p ≥ min(ε, √ε·exp(−H)); the most probable token if there is none (arXiv 2210.15191, with its α = √ε)."""
    threshold = torch.minimum(epsilon.log(), 0.5 * epsilon.log() - entropy(log_probs))
    return or_best(log_probs >= threshold.to(log_probs.dtype), log_probs)


def _min_p(log_probs: torch.Tensor, fraction: torch.Tensor) -> torch.Tensor:
    """p ≥ fraction · max p (arXiv 2407.01082)."""
    return log_probs >= fraction.log().to(log_probs.dtype) + log_probs.amax(dim=-1, keepdim=True)


def _top_n_sigma(log_probs: torch.Tensor, n: torch.Tensor) -> torch.Tensor:
    """logit ≥ max − n·σ, with σ over the vocabulary (arXiv 2411.07641).

    The rule is invariant to shifting or scaling the logits, so it can be applied to log-probabilities at any
    temperature.
    """
    deviation = log_probs.std(dim=-1, keepdim=True, correction=0)
    return or_best(log_probs >= log_probs.amax(dim=-1, keepdim=True) - n.to(log_probs.dtype) * deviation, log_probs)


def _top_h(log_probs: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    """The most probable tokens, as many as have H(q) ≤ α·H(p), where q is their renormalized distribution (arXiv
    2509.02510, algorithm 1).

    With mass Γ, H(q) = log Γ − (Σ p·log p) / Γ. Adding a token, never more probable than those before it, cannot
    decrease H(q). So the algorithm, which stops at the first excess, keeps as many tokens as there are prefixes within
    the bound. (At α = 1 these are all tokens, regardless of rounding.)
    """
    bound = alpha * entropy(log_probs)

    def find_last(ordered: torch.Tensor, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        ordered = ordered.double()
        mass = ordered.exp().cumsum(dim=-1)
        within = mass.log() - _p_log_p(ordered).cumsum(dim=-1) / mass <= bound[rows]
        count = (within | (alpha[rows] >= 1)).sum(dim=-1, keepdim=True)
        return (count - 1).clamp(min=0), count < ordered.shape[-1]

    return log_probs >= -_threshold(-log_probs, log_probs, find_last)


def _p_less(log_probs: torch.Tensor, setting: torch.Tensor) -> torch.Tensor:
    """p ≥ Σ p², the probability that two independent draws are equal (arXiv 2509.23234).

    Mathematically, the most probable token always qualifies; rounding could exclude it.
    """
    return or_best(log_probs >= (2 * log_probs).logsumexp(dim=-1, keepdim=True), log_probs)


def or_best(mask: torch.Tensor, log_probs: torch.Tensor) -> torch.Tensor:
    """The mask with the most probable token of each row added: all of them, if several are tied."""
    return mask | (log_probs >= log_probs.amax(dim=-1, keepdim=True))


def _until_mass(mass: torch.Tensor) -> FindLast:
    """Finds the token at which the cumulative probability reaches the mass [all rows, 1]; the last one for mass 1."""

    def find_last(ordered: torch.Tensor, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        wanted = mass[rows]
        short = (ordered.double().exp().cumsum(dim=-1) < wanted) | (wanted >= 1)
        count = short.sum(dim=-1, keepdim=True)
        return count.clamp(max=ordered.shape[-1] - 1), count < ordered.shape[-1]

    return find_last


def _threshold(score: torch.Tensor, log_probs: torch.Tensor, find_last: FindLast) -> torch.Tensor:
    """The score [rows, 1] of the last token kept, where lower scores are kept first.

    A full sort is done only for rows whose threshold is not among the first ``_PARTIAL_SORT`` tokens.
    """
    size = min(_PARTIAL_SORT, score.shape[-1])
    rows = torch.arange(len(score), device=score.device)
    best, tokens = score.topk(size, dim=-1, largest=False)
    last, found = find_last(log_probs.gather(1, tokens), rows)
    threshold = best.gather(1, last)
    remaining = rows[~found[:, 0]]
    if size < score.shape[-1] and len(remaining):
        best, tokens = score[remaining].sort(dim=-1)
        last, _ = find_last(log_probs[remaining].gather(1, tokens), remaining)
        threshold[remaining] = best.gather(1, last)
    return threshold


# Family of strategies → its rule.
TRUNCATIONS: dict[str, Truncation] = {
    "temperature": _keep_all,
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
