"""The model's log-probabilities minus weaker ones: those of an amateur model (contrastive decoding) or layer (DoLa).

Both classes replace the prefix cache in :func:`textgen.evaluation.decoding.token_loop.decode_rows`. Only plausible
tokens can be chosen: those at least ``plausibility`` times as probable as the most probable one. All others have score
−inf.
"""

from collections.abc import Sequence

import torch

from textgen.evaluation.decoding.prefix.hidden_states import candidate_layers, early_logits
from textgen.evaluation.decoding.prefix.prefix import Prefix
from textgen.evaluation.decoding.strategies import Strategy


class AmateurContrast:
    """Contrastive decoding (Li et al., arXiv 2210.15097, equations 2 and 3): log p − log p_amateur, where p_amateur has
    its own temperature."""

    def __init__(self, expert: Prefix, amateur: Prefix, strategies: Sequence[Strategy]) -> None:
        self.expert, self.amateur = expert, amateur
        self.plausibility = setting_column(strategies, "plausibility", expert.logits)
        self.temperature = setting_column(strategies, "amateur_temperature", expert.logits)
        self.logits = self._contrast()

    def append(self, tokens: torch.Tensor) -> torch.Tensor:
        """Append one token to every row, [rows]; returns the scores of the next token, [rows, vocabulary]."""
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
        expert = self.expert.logits.log_softmax(dim=-1)
        amateur = (self.amateur.logits / self.temperature).log_softmax(dim=-1)
        return (expert - amateur).masked_fill_(~plausible_tokens(expert, self.plausibility), -torch.inf)


class LayerContrast:
    """DoLa (Chuang et al., arXiv 2309.03883, section 2): log p − log p_j, where p_j is the output head's distribution
    for the earlier layer j with the largest Jensen–Shannon divergence from p.

    As in the authors' code, the head is applied to an earlier layer directly, without the final normalization.
    """

    def __init__(self, prefix: Prefix, strategies: Sequence[Strategy]) -> None:
        assert prefix.layer_states, "prefill with layer_states=True"
        self.prefix = prefix
        self.plausibility = setting_column(strategies, "plausibility", prefix.logits)
        self.logits = self._contrast()

    def append(self, tokens: torch.Tensor) -> torch.Tensor:
        """Append one token to every row, [rows]; returns the scores of the next token, [rows, vocabulary]."""
        self.prefix.append(tokens)
        self.logits = self._contrast()
        return self.logits

    def select_rows(self, which: torch.Tensor) -> None:
        """Replace the rows by those with these indices."""
        self.prefix.select_rows(which)
        self.plausibility, self.logits = self.plausibility[which], self.logits[which]

    def _contrast(self) -> torch.Tensor:
        final = self.prefix.logits.log_softmax(dim=-1)
        largest = torch.full((len(final), 1), -torch.inf, dtype=final.dtype, device=final.device)
        contrasted = final
        for states in candidate_layers(self.prefix.layer_states):
            early = early_logits(self.prefix.model, states).log_softmax(dim=-1)
            divergence = jensen_shannon(final, early)
            contrasted = torch.where(divergence > largest, early, contrasted)
            largest = torch.maximum(largest, divergence)
        return (final - contrasted).masked_fill_(~plausible_tokens(final, self.plausibility), -torch.inf)


def jensen_shannon(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Jensen–Shannon divergence in nats, [rows, 1], of two distributions given as log-probabilities."""
    middle = torch.logaddexp(a, b) - torch.log(torch.tensor(2.0, dtype=a.dtype, device=a.device))
    halves = a.exp() * (a - middle) + b.exp() * (b - middle)
    return 0.5 * halves.sum(dim=-1, keepdim=True)


def plausible_tokens(log_probs: torch.Tensor, fraction: torch.Tensor) -> torch.Tensor:
    """Tokens at least ``fraction`` [rows, 1] times as probable as the most probable one: bool [rows, vocabulary]."""
    return log_probs >= fraction.log() + log_probs.amax(dim=-1, keepdim=True)


def setting_column(strategies: Sequence[Strategy], name: str, like: torch.Tensor) -> torch.Tensor:
    """A setting of each strategy, [rows, 1]."""
    return torch.tensor([[strategy.settings[name]] for strategy in strategies], dtype=like.dtype, device=like.device)
