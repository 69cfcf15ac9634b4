"""A model part of the way through some rows of text: its cache, and what it expects next.

Prompts are read once (:func:`prefill`); every way of decoding them starts from a copy of what that left behind.
"""

import copy
import inspect
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.nn import functional as F
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer


class RoomyLayer(DynamicLayer):
    """A cache layer that writes into space it has in stock, where the one of transformers copies everything to add a
    token. ``keys`` and ``values`` are views of the part in use."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room  # tokens of space taken at a time
        self.spaces: tuple[torch.Tensor, torch.Tensor] | None = None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The keys and values so far, [rows, heads, length, width], with the new ones at the end."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        used = self.get_seq_length()
        length = used + key_states.shape[-2]
        if self.spaces is None or self.spaces[0].shape[-2] < length:
            self.spaces = (
                _space(self.keys, key_states, used, length + self.room),
                _space(self.values, value_states, used, length + self.room),
            )
        self.spaces[0][:, :, used:length] = key_states
        self.spaces[1][:, :, used:length] = value_states
        self.keys, self.values = (space[:, :, :length] for space in self.spaces)
        return self.keys, self.values

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Other rows in place of the present ones; new tensors, so that a copy of the layer is not disturbed."""
        if self.spaces is not None:
            length = self.get_seq_length()
            self.spaces = (self.spaces[0].index_select(0, beam_idx), self.spaces[1].index_select(0, beam_idx))
            self.keys, self.values = (space[:, :, :length] for space in self.spaces)


def _space(old: torch.Tensor | None, new: torch.Tensor, used: int, length: int) -> torch.Tensor:
    space = new.new_empty((*new.shape[:2], length, new.shape[3]))
    if used:
        assert old is not None
        space[:, :, :used] = old
    return space


@dataclass
class Reading:
    """What a model made of the rows that it has read.

    Attributes:
        model: full or with adapters; in evaluation mode.
        cache: of all rows, which are of one length.
        logits: what may come next, [rows, vocabulary], float32.
        states: directions of the last layer's hidden states at all positions read so far, [rows, length, width], unit
            vectors in float32; None unless they were asked for.
        layers: hidden states of every layer at the last position, each [rows, width]; empty unless asked for.
    """

    model: PreTrainedModel
    cache: DynamicCache
    logits: torch.Tensor
    states: torch.Tensor | None = None
    layers: tuple[torch.Tensor, ...] = ()

    def rows(self, which: torch.Tensor) -> "Reading":
        """A reading of its own of the rows with these numbers, each as often as it is named."""
        other = copy.copy(self)
        other.cache = copy.copy(self.cache)
        other.cache.layers = [
            copy.copy(layer) if isinstance(layer, RoomyLayer) else copy.deepcopy(layer) for layer in self.cache.layers
        ]
        other.select(which)
        return other

    def plain(self) -> "Reading":
        """The same without hidden states, which then are not kept up either."""
        return replace(self, states=None, layers=())

    def select(self, which: torch.Tensor) -> None:
        """The rows with these numbers take the place of the present ones."""
        self.cache.reorder_cache(which)  # type: ignore[arg-type]
        self.logits = self.logits[which]
        self.states = None if self.states is None else self.states[which]
        self.layers = tuple(layer[which] for layer in self.layers)

    def read(self, tokens: torch.Tensor) -> torch.Tensor:
        """Read a token more in every row, [rows]; returns the logits of what may come next, [rows, vocabulary]."""
        output = _forward(self.model, tokens[:, None], self.cache, hidden=self.states is not None or bool(self.layers))
        self.logits = output.logits[:, -1].float()
        if self.states is not None:
            self.states = torch.cat([self.states, _directions(output)], dim=1)
        if self.layers:
            self.layers = tuple(layer[:, -1] for layer in output.hidden_states)
        return self.logits

    def read_on(self, tokens: torch.Tensor) -> torch.Tensor:
        """Read several tokens more, [rows, n]; returns the logits after each, [rows, n, vocabulary]."""
        logits = _forward(self.model, tokens, self.cache, keep=tokens.shape[1]).logits[:, -tokens.shape[1] :].float()
        self.logits = logits[:, -1]
        return logits

    def forget(self, tokens: int) -> None:
        """Take back the last ``tokens`` tokens; ``logits`` are then out of date."""
        self.cache.crop(-tokens)


def prefill(model: PreTrainedModel, prompts: torch.Tensor, *, room: int, states: bool, layers: bool) -> Reading:
    """Read ``prompts`` [rows, length], without padding, in one pass.

    ``room`` is how many tokens will follow at most; ``states`` and ``layers`` ask for those of the :class:`Reading`.
    """
    cache = DynamicCache(config=model.config)
    cache.layers = [RoomyLayer(room) if type(layer) is DynamicLayer else layer for layer in cache.layers]
    output = _forward(model, prompts, cache, hidden=states or layers)
    return Reading(
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


def accepts_logits_to_keep(model: PreTrainedModel) -> bool:
    """Whether the model can be told at how many of the last positions to compute logits."""
    return "logits_to_keep" in inspect.signature(without_adapters(model).forward).parameters


def without_adapters(model: PreTrainedModel) -> PreTrainedModel:
    """The transformers model itself: what a model with adapters around it answers for."""
    inner: PreTrainedModel = getattr(model, "get_base_model", lambda: model)()
    return inner
