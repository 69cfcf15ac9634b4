"""Rows of text that a model has read: their KV cache, and the logits of the next token.

Prompts are read once (:func:`prefill`); every strategy continues from a copy.
"""

import copy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.nn import functional as F
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from textgen.model.layers import accepts_logits_to_keep


class PreallocatedLayer(DynamicLayer):
    """A cache layer that appends into preallocated memory; the one of transformers copies everything for each token.

    ``keys`` and ``values`` are views of the part in use.
    """

    def __init__(self, spare: int) -> None:
        super().__init__()
        self.spare = spare  # tokens of memory allocated at a time
        self.buffers: tuple[torch.Tensor, torch.Tensor] | None = None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append keys and values; returns all of them, [rows, heads, length, width]."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        used = self.get_seq_length()
        length = used + key_states.shape[-2]
        if self.buffers is None or self.buffers[0].shape[-2] < length:
            self.buffers = (
                _grown(self.keys, key_states, used, length + self.spare),
                _grown(self.values, value_states, used, length + self.spare),
            )
        self.buffers[0][:, :, used:length] = key_states
        self.buffers[1][:, :, used:length] = value_states
        self.keys, self.values = (buffer[:, :, :length] for buffer in self.buffers)
        return self.keys, self.values

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Replace the rows by those with these indices; in new tensors, so that a copy of the layer is unaffected."""
        if self.buffers is not None:
            length = self.get_seq_length()
            self.buffers = (self.buffers[0].index_select(0, beam_idx), self.buffers[1].index_select(0, beam_idx))
            self.keys, self.values = (buffer[:, :, :length] for buffer in self.buffers)


def _grown(old: torch.Tensor | None, new: torch.Tensor, used: int, length: int) -> torch.Tensor:
    buffer = new.new_empty((*new.shape[:2], length, new.shape[3]))
    if used:
        assert old is not None
        buffer[:, :, :used] = old
    return buffer


@dataclass
class PrefixCache:
    """Rows of text that a model has read.

    Attributes:
        model: full or with adapters; in evaluation mode.
        cache: of all rows, which have the same length.
        logits: of the next token, [rows, vocabulary], float32.
        states: the last layer's hidden states at all positions so far as unit vectors, [rows, length, width], float32;
            None unless requested.
        layers: hidden states of every layer at the last position, each [rows, width]; empty unless requested.
    """

    model: PreTrainedModel
    cache: DynamicCache
    logits: torch.Tensor
    states: torch.Tensor | None = None
    layers: tuple[torch.Tensor, ...] = ()

    def copy_rows(self, which: torch.Tensor) -> "PrefixCache":
        """An independent copy of the rows with these indices, each as often as it occurs."""
        other = copy.copy(self)
        other.cache = copy.copy(self.cache)
        other.cache.layers = [
            copy.copy(layer) if isinstance(layer, PreallocatedLayer) else copy.deepcopy(layer)
            for layer in self.cache.layers
        ]
        other.select_rows(which)
        return other

    def without(self, *, states: bool = True, layers: bool = True) -> "PrefixCache":
        """The same rows without hidden states, which are then not updated either."""
        return replace(self, states=None if states else self.states, layers=() if layers else self.layers)

    def select_rows(self, which: torch.Tensor) -> None:
        """Replace the rows by those with these indices."""
        self.cache.reorder_cache(which)  # type: ignore[arg-type]
        self.logits = self.logits[which]
        self.states = None if self.states is None else self.states[which]
        self.layers = tuple(layer[which] for layer in self.layers)

    def append(self, tokens: torch.Tensor) -> torch.Tensor:
        """Append one token to every row, [rows]; returns the logits of the next one, [rows, vocabulary]."""
        output = _forward(self.model, tokens[:, None], self.cache, hidden=self.states is not None or bool(self.layers))
        self.logits = output.logits[:, -1].float()
        if self.states is not None:
            self.states = torch.cat([self.states, _directions(output)], dim=1)
        if self.layers:
            self.layers = tuple(layer[:, -1] for layer in output.hidden_states)
        return self.logits

    def append_many(self, tokens: torch.Tensor) -> torch.Tensor:
        """Append several tokens to every row, [rows, n]; returns the logits after each, [rows, n, vocabulary]."""
        logits = _forward(self.model, tokens, self.cache, keep=tokens.shape[1]).logits[:, -tokens.shape[1] :].float()
        self.logits = logits[:, -1]
        return logits

    def rewind(self, tokens: int) -> None:
        """Remove the last ``tokens`` tokens of every row; ``logits`` are then outdated."""
        self.cache.crop(-tokens)


def prefill(
    model: PreTrainedModel, prompts: torch.Tensor, *, new_tokens: int, states: bool = False, layers: bool = False
) -> PrefixCache:
    """Read prompts in one forward pass.

    Args:
        model: in evaluation mode.
        prompts: token ids [rows, length], without padding.
        new_tokens: how many tokens will be appended at most.
        states: keep hidden states of all positions.
        layers: keep hidden states of every layer at the last position.
    """
    cache = DynamicCache(config=model.config)
    cache.layers = [PreallocatedLayer(new_tokens) if type(layer) is DynamicLayer else layer for layer in cache.layers]
    output = _forward(model, prompts, cache, hidden=states or layers)
    return PrefixCache(
        model,
        cache,
        output.logits[:, -1].float(),
        _directions(output) if states else None,
        tuple(layer[:, -1] for layer in output.hidden_states) if layers else (),
    )


def _forward(
    model: PreTrainedModel, tokens: torch.Tensor, cache: DynamicCache, *, hidden: bool = False, keep: int = 1
) -> Any:
    kept = {"logits_to_keep": keep} if accepts_logits_to_keep(model) else {}
    return model(input_ids=tokens, past_key_values=cache, use_cache=True, output_hidden_states=hidden, **kept)


def _directions(output: Any) -> torch.Tensor:
    return F.normalize(output.hidden_states[-1].float(), dim=-1)
