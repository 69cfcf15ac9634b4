"""Texts that a model reads again from the beginning for every token: right for every causal model, and slow."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from textgen.evaluation.decoding.prefix.prefix import run_model, unit_states

# Tokens in a forward pass. Models that cannot leave out logits have 160 MB of them, with GPT's vocabulary of 40,478.
_MAX_TOKENS = 1024


@dataclass
class RecomputedPrefix:
    """Rows of tokens that a model has read, without a cache.

    It is a :class:`textgen.evaluation.decoding.prefix.prefix.Prefix`.

    Attributes:
        model: the model, full or with adapters, in evaluation mode.
        tokens: token ids [rows, length].
        logits, token_states, layer_states: as in the protocol.
    """

    model: Any
    tokens: torch.Tensor
    logits: torch.Tensor
    token_states: torch.Tensor | None = None
    layer_states: tuple[torch.Tensor, ...] = ()

    @classmethod
    def read(
        cls, model: Any, prompts: torch.Tensor, *, token_states: bool = False, layer_states: bool = False
    ) -> "RecomputedPrefix":
        """Read prompts, [rows, length], without padding."""
        prefix = cls(model, prompts, prompts.new_empty(0, dtype=torch.float32))
        prefix._read(all_states=token_states, layer_states=layer_states)
        return prefix

    def copy_rows(
        self, which: torch.Tensor, *, token_states: bool = False, layer_states: bool = False
    ) -> "RecomputedPrefix":
        """An independent copy of the rows with these indices, which may repeat."""
        rows = replace(
            self,
            token_states=self.token_states if token_states else None,
            layer_states=self.layer_states if layer_states else (),
        )
        rows.select_rows(which)
        return rows

    def select_rows(self, which: torch.Tensor) -> None:
        """Replace the rows by those with these indices."""
        self.tokens, self.logits = self.tokens[which], self.logits[which]
        self.token_states = None if self.token_states is None else self.token_states[which]
        self.layer_states = tuple(states[which] for states in self.layer_states)

    def append(self, tokens: torch.Tensor) -> torch.Tensor:
        """Append one token to every row, [rows]; returns the logits of the next token, [rows, vocabulary]."""
        self.tokens = torch.cat([self.tokens, tokens[:, None]], dim=1)
        self._read(layer_states=bool(self.layer_states))
        return self.logits

    def append_many(self, tokens: torch.Tensor) -> torch.Tensor:
        """Append several tokens to every row, [rows, n]; returns the logits after each, [rows, n, vocabulary]."""
        self.tokens = torch.cat([self.tokens, tokens], dim=1)
        count = tokens.shape[1]
        (logits,) = self._by_rows(lambda rows: [run_model(self.model, rows, keep=count).logits[:, -count:].float()])
        self.logits = logits[:, -1]
        return logits

    def allow_rewinding(self) -> None:
        """Nothing to do: the tokens are always there."""

    def rewind(self, tokens: int) -> None:
        """Remove the last ``tokens`` tokens of every row."""
        self.tokens = self.tokens[:, : self.tokens.shape[1] - tokens]

    def bytes_per_row(self, length: int) -> int:
        """Memory that a row of this many tokens takes between forward passes."""
        return length * self.tokens.element_size()

    def _read(self, *, all_states: bool = False, layer_states: bool = False) -> None:
        """Read all tokens, and set the logits and hidden states; without ``all_states``, append the last token's."""
        hidden = all_states or layer_states or self.token_states is not None

        def parts(rows: torch.Tensor) -> list[torch.Tensor]:
            output = run_model(self.model, rows, hidden=hidden)
            states = [unit_states(output)] if hidden else []
            layers = [layer[:, -1] for layer in output.hidden_states] if layer_states else []
            return [output.logits[:, -1].float(), *states, *layers]

        self.logits, *others = self._by_rows(parts)
        states = others.pop(0) if hidden else None
        self.layer_states = tuple(others)
        if all_states:
            self.token_states = states
        elif self.token_states is not None:
            assert states is not None
            self.token_states = torch.cat([self.token_states, states[:, -1:]], dim=1)

    def _by_rows(self, parts: Callable[[torch.Tensor], list[torch.Tensor]]) -> list[torch.Tensor]:
        """Tensors computed for some rows at a time, put together."""
        rows = max(1, _MAX_TOKENS // self.tokens.shape[1])
        return [torch.cat(part) for part in zip(*map(parts, self.tokens.split(rows)), strict=True)]
