"""Scores that are not the model's own logits but how they differ from weaker ones: an amateur's, or an earlier layer's.

Both are sources for :func:`textgen.evaluation.decoding.token_loop.decode_rows`. Only plausible tokens have a score:
those at least a share ``plausibility`` as probable as the most probable one; the rest are at −inf.
"""

from collections.abc import Sequence

import torch

from textgen.evaluation.decoding.prefix_cache import Reading
from textgen.evaluation.decoding.strategies import Strategy


class AgainstAmateur:
    """Contrastive decoding (Li et al., arXiv 2210.15097, equations 2 and 3): log p − log p_amateur, where the amateur
    has a temperature of its own."""

    def __init__(self, expert: Reading, amateur: Reading, strategies: Sequence[Strategy]) -> None:
        self.expert, self.amateur = expert, amateur
        self.plausibility = column(strategies, "plausibility", expert.logits)
        self.temperature = column(strategies, "amateur_temperature", expert.logits)
        self.logits = self._contrast()

    def read(self, tokens: torch.Tensor) -> torch.Tensor:
        """Both read a token more in every row, [rows]; returns the scores, [rows, vocabulary]."""
        self.expert.read(tokens)
        self.amateur.read(tokens)
        self.logits = self._contrast()
        return self.logits

    def select(self, which: torch.Tensor) -> None:
        """Keep the rows with these numbers."""
        self.expert.select(which)
        self.amateur.select(which)
        self.plausibility, self.temperature = self.plausibility[which], self.temperature[which]
        self.logits = self.logits[which]

    def _contrast(self) -> torch.Tensor:
        own = self.expert.logits.log_softmax(dim=-1)
        amateur = (self.amateur.logits / self.temperature).log_softmax(dim=-1)
        return (own - amateur).masked_fill_(~plausible(own, self.plausibility), -torch.inf)


class AgainstEarlierLayers:
    """DoLa (Chuang et al., arXiv 2309.03883, section 2): log p − log p_j, where p_j is what the output head makes of an
    earlier layer j, the one whose distribution is farthest from p in Jensen–Shannon divergence.

    Candidates are every other layer of the later half. As in the authors' code, the head reads an earlier layer as it
    is, without the normalisation that comes after the last.
    """

    def __init__(self, reading: Reading, strategies: Sequence[Strategy]) -> None:
        assert reading.layers, "ask for layers when the prompts are read"
        self.reading = reading
        self.plausibility = column(strategies, "plausibility", reading.logits)
        self.logits = self._contrast()

    def read(self, tokens: torch.Tensor) -> torch.Tensor:
        """Read a token more in every row, [rows]; returns the scores, [rows, vocabulary]."""
        self.reading.read(tokens)
        self.logits = self._contrast()
        return self.logits

    def select(self, which: torch.Tensor) -> None:
        """Keep the rows with these numbers."""
        self.reading.select(which)
        self.plausibility, self.logits = self.plausibility[which], self.logits[which]

    def _contrast(self) -> torch.Tensor:
        own = self.reading.logits.log_softmax(dim=-1)
        last = len(self.reading.layers) - 1  # layer 0 is the embedding
        head = self.reading.model.get_output_embeddings()
        farthest = torch.full((len(own), 1), -torch.inf, dtype=own.dtype, device=own.device)
        premature = own
        for layer in self.reading.layers[last // 2 : last : 2]:
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


def column(strategies: Sequence[Strategy], setting: str, like: torch.Tensor) -> torch.Tensor:
    """The setting of each strategy, [rows, 1]."""
    return torch.tensor([[strategy.settings[setting]] for strategy in strategies], dtype=like.dtype, device=like.device)
