"""The KV cache of token sequences that a model has read, with the logits of the next token.

Prompts are read once (:func:`prefill`); every strategy continues from a copy.
"""

import copy
from dataclasses import dataclass, replace

import torch
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from textgen.evaluation.decoding.prefix.prefix import run_model, unit_states


class PreallocatedLayer(DynamicLayer):
    """A cache layer that appends into preallocated memory; transformers' own copies everything for each token.

    ``keys`` and ``values`` are views of the part in use.
    """

    def __init__(self, spare: int) -> None:
        super().__init__()
        self.spare = spare  # tokens of memory allocated at a time
        self.buffers: tuple[torch.Tensor, torch.Tensor] | None = None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append keys and values; returns all of them, [rows, heads, length, head width]."""
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
        """Select rows by index, into new tensors: a shallow copy of the layer keeps its own rows."""
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
    """Rows of tokens that a model has read, with a cache.

    It is a :class:`textgen.evaluation.decoding.prefix.prefix.Prefix`.

    Attributes:
        model: the model, full or with adapters, in evaluation mode.
        cache: keys and values of all rows, or recurrent states.
        logits, token_states, layer_states: as in the protocol.
    """

    model: PreTrainedModel
    cache: DynamicCache
    logits: torch.Tensor
    token_states: torch.Tensor | None = None
    layer_states: tuple[torch.Tensor, ...] = ()

    def copy_rows(
        self, which: torch.Tensor, *, token_states: bool = False, layer_states: bool = False
    ) -> "PrefixCache":
        """An independent copy of the rows with these indices, which may repeat."""
        cache = copy.copy(self.cache)
        cache.layers = [
            copy.copy(layer) if isinstance(layer, PreallocatedLayer) else copy.deepcopy(layer)
            for layer in self.cache.layers
        ]
        rows = replace(
            self,
            cache=cache,
            token_states=self.token_states if token_states else None,
            layer_states=self.layer_states if layer_states else (),
        )
        rows.select_rows(which)
        return rows

    def select_rows(self, which: torch.Tensor) -> None:
        """Replace the rows by those with these indices."""
        self.cache.reorder_cache(which)  # type: ignore[arg-type]
        self.logits = self.logits[which]
        self.token_states = None if self.token_states is None else self.token_states[which]
        self.layer_states = tuple(states[which] for states in self.layer_states)

    def append(self, tokens: torch.Tensor) -> torch.Tensor:
        """Append one token to every row, [rows]; returns the logits of the next token, [rows, vocabulary]."""
        hidden = self.token_states is not None or bool(self.layer_states)
        output = run_model(self.model, tokens[:, None], cache=self.cache, hidden=hidden)
        self.logits = output.logits[:, -1].float()
        if self.token_states is not None:
            self.token_states = torch.cat([self.token_states, unit_states(output)], dim=1)
        if self.layer_states:
            self.layer_states = tuple(states[:, -1] for states in output.hidden_states)
        return self.logits

    def append_many(self, tokens: torch.Tensor) -> torch.Tensor:
        """Append several tokens to every row, [rows, n]; returns the logits after each, [rows, n, vocabulary]."""
        count = tokens.shape[1]
        logits = run_model(self.model, tokens, cache=self.cache, keep=count).logits[:, -count:].float()
        self.logits = logits[:, -1]
        return logits

    def allow_rewinding(self) -> None:
        """Layers with a sliding window keep from now on what has left the window, until the next :meth:`rewind`."""
        self.cache.activate_past_recording()

    def rewind(self, tokens: int) -> None:
        """Remove the last ``tokens`` tokens of every row; ``logits`` are invalid until the next append."""
        self.cache.crop(-tokens)

    def bytes_per_row(self, length: int) -> int:
        """Memory that a row of this many tokens takes between forward passes: keys, values and recurrent states."""
        size = 0
        for layer in self.cache.layers:
            keys = getattr(layer, "keys", None)
            size += 0 if keys is None or keys.ndim != 4 else 2 * length * keys[0, :, 0].nbytes
            for states in (getattr(layer, "conv_states", {}), getattr(layer, "recurrent_states", {})):
                size += sum(state[0].nbytes for state in states.values() if state is not None)
        return size


def prefill(
    model: PreTrainedModel,
    prompts: torch.Tensor,
    *,
    new_tokens: int,
    token_states: bool = False,
    layer_states: bool = False,
) -> PrefixCache:
    """The cache after one forward pass over the prompts.

    Args:
        model: the model, in evaluation mode.
        prompts: token ids [rows, length], without padding.
        new_tokens: number of tokens to preallocate memory for.
        token_states: keep the last layer's hidden states of all positions.
        layer_states: keep the last position's hidden states of every layer.
    """
    cache = DynamicCache(config=model.config)
    cache.layers = [PreallocatedLayer(new_tokens) if type(layer) is DynamicLayer else layer for layer in cache.layers]
    output = run_model(model, prompts, cache=cache, hidden=token_states or layer_states)
    return PrefixCache(
        model,
        cache,
        output.logits[:, -1].float(),
        unit_states(output) if token_states else None,
        tuple(states[:, -1] for states in output.hidden_states) if layer_states else (),
    )
