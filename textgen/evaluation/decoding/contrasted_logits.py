"""Scores that contrast the model's log-probabilities with weaker ones: an amateur model's, or an earlier layer's.

Both classes take the place of a prefix cache in :func:`textgen.evaluation.decoding.token_loop.decode_rows`. Only
plausible tokens have a score: those at least a share ``plausibility`` as probable as the most probable one. All others
are −inf.
"""

from collections.abc import Sequence

import torch

from textgen.evaluation.decoding.prefix_cache import PrefixCache
from textgen.evaluation.decoding.strategies import Strategy


class AmateurContrast:
    """Contrastive decoding (Li et al., arXiv 2210.15097, equations 2 and 3): log p − log p_amateur, where the amateur
    has a temperature of its own."""

    def __init__(self, expert: PrefixCache, amateur: PrefixCache, strategies: Sequence[Strategy]) -> None:
        self.expert, self.amateur = expert, amateur
        self.plausibility = setting_column(strategies, "plausibility", expert.logits)
        self.temperature = setting_column(strategies, "amateur_temperature", expert.logits)
        self.logits = self._contrast()

    def append(self, tokens: torch.Tensor) -> torch.Tensor:
        """Append one token to every row, [rows]; returns the scores of the next one, [rows, vocabulary]."""
        self.expert.append(tokens)
        self.amateur.append(tokens)
        self.logits = self._contrast()
        return self.logits

    def select_rows(self, which: torch.Tensor) -> None:
        """Replace the rows by those with these indices."""
        self.expert.select_rows(which)
        self.amateur.select_rows(which)
        self.plausibility, self.temperature = self.plausibility[which], self.temperature[which]
        self.logits = self.logits[which]

    def _contrast(self) -> torch.Tensor:
        own = self.expert.logits.log_softmax(dim=-1)
        amateur = (self.amateur.logits / self.temperature).log_softmax(dim=-1)
        return (own - amateur).masked_fill_(~plausible(own, self.plausibility), -torch.inf)


class LayerContrast:
    """DoLa (Chuang et al., arXiv 2309.03883, section 2): log p − log p_j, where p_j is the output head's distribution
    for an earlier layer j, the one that is farthest from p in Jensen–Shannon divergence.

    Candidates are every other layer of the later half. As in the authors' code, the head reads an earlier layer as it
    is, without the normalisation that follows the last one.
    """

    def __init__(self, prefix: PrefixCache, strategies: Sequence[Strategy]) -> None:
        assert prefix.layers, "prefill with layers=True"
        self.prefix = prefix
        self.plausibility = setting_column(strategies, "plausibility", prefix.logits)
        self.logits = self._contrast()

    def append(self, tokens: torch.Tensor) -> torch.Tensor:
        """Append one token to every row, [rows]; returns the scores of the next one, [rows, vocabulary]."""
        self.prefix.append(tokens)
        self.logits = self._contrast()
        return self.logits

    def select_rows(self, which: torch.Tensor) -> None:
        """Replace the rows by those with these indices."""
        self.prefix.select_rows(which)
        self.plausibility, self.logits = self.plausibility[which], self.logits[which]

    def _contrast(self) -> torch.Tensor:
        own = self.prefix.logits.log_softmax(dim=-1)
        last = len(self.prefix.layers) - 1  # layer 0 is the embedding
        head = self.prefix.model.get_output_embeddings()
        farthest = torch.full((len(own), 1), -torch.inf, dtype=own.dtype, device=own.device)
        premature = own
        for layer in self.prefix.layers[last // 2 : last : 2]:
            early = head(layer).float().log_softmax(dim=-1)
            distance = jensen_shannon(own, early)
            premature = torch.where(distance > farthest, early, premature)
            farthest = torch.maximum(farthest, distance)
        return (own - premature).masked_fill_(~plausible(own, self.plausibility), -torch.inf)


def jensen_shannon(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Jensen–Shannon divergence in nats, [rows, 1], of two distributions given as log-probabilities."""
    middle = torch.logaddexp(a, b) - torch.log(torch.tensor(2.0, dtype=a.dtype, device=a.device))
    halves = a.exp() * (a - middle) + b.exp() * (b - middle)
    return 0.5 * halves.sum(dim=-1, keepdim=True)


def plausible(log_probs: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """Tokens at least ``share`` [rows, 1] as probable as the most probable one: bool [rows, vocabulary]."""
    return log_probs >= share.log() + log_probs.amax(dim=-1, keepdim=True)


def setting_column(strategies: Sequence[Strategy], name: str, like: torch.Tensor) -> torch.Tensor:
    """A setting of each strategy, [rows, 1]."""
    return torch.tensor([[strategy.settings[name]] for strategy in strategies], dtype=like.dtype, device=like.device)
