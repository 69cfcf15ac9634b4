"""What decoders need of texts that a model has read, whether it keeps a cache of them or reads them again."""

import inspect
from typing import Any, Protocol

import torch
from torch.nn import functional as F

from textgen.model.layers import accepts_logits_to_keep, without_adapters


class Prefix(Protocol):
    """Rows of tokens that a model has read, all of the same length.

    Attributes:
        model: the model, full or with adapters, in evaluation mode.
        logits: logits of the next token, [rows, vocabulary], float32.
        token_states: hidden states of the last layer at all positions, as unit vectors, [rows, length, width], float32;
            None unless requested.
        layer_states: hidden states of every layer at the last position, each [rows, width]; empty unless requested.
    """

    model: Any
    logits: torch.Tensor
    token_states: torch.Tensor | None
    layer_states: tuple[torch.Tensor, ...]

    def copy_rows(self, which: torch.Tensor, *, token_states: bool = False, layer_states: bool = False) -> "Prefix":
        """An independent copy of the rows with these indices, which may repeat.

        Hidden states are copied, and later updated, only on request.
        """
        ...

    def select_rows(self, which: torch.Tensor) -> None:
        """Replace the rows by those with these indices."""
        ...

    def append(self, tokens: torch.Tensor) -> torch.Tensor:
        """Append one token to every row, [rows]; returns the logits of the next token, [rows, vocabulary]."""
        ...

    def append_many(self, tokens: torch.Tensor) -> torch.Tensor:
        """Append several tokens to every row, [rows, n]; returns the logits after each, [rows, n, vocabulary].

        Hidden states are not updated.
        """
        ...

    def allow_rewinding(self) -> None:
        """Keep from now on what :meth:`rewind` needs."""
        ...

    def rewind(self, tokens: int) -> None:
        """Remove the last ``tokens`` tokens of every row; ``logits`` are invalid until the next append."""
        ...

    def bytes_per_row(self, length: int) -> int:
        """Memory that a row of this many tokens takes between forward passes."""
        ...


def run_model(
    model: Any, tokens: torch.Tensor, *, cache: Any = None, hidden: bool = False, keep: int | None = 1
) -> Any:
    """The model's output for tokens [rows, length], after those in the cache.

    Args:
        model: the model, in evaluation mode.
        tokens: token ids.
        cache: a transformers cache, which is updated; None for none.
        hidden: output the hidden states of all layers.
        keep: number of last positions whose logits are needed, in models that can leave out the others; None for all.
    """
    options: dict[str, Any] = {"use_cache": cache is not None}
    if keep is not None and accepts_logits_to_keep(model):
        options["logits_to_keep"] = keep
    if hidden:
        options["output_hidden_states"] = True
    if cache is not None:
        options[_cache_argument(model)] = cache
    return model(input_ids=tokens, **options)


def unit_states(output: Any) -> torch.Tensor:
    """Hidden states of the last layer as unit vectors, [rows, length, width], float32."""
    return F.normalize(output.hidden_states[-1].float(), dim=-1)


def _cache_argument(model: Any) -> str:
    """What the model calls its cache: state-space models have a name of their own."""
    parameters = inspect.signature(without_adapters(model).forward).parameters
    return "cache_params" if "cache_params" in parameters else "past_key_values"
