"""The hidden states that contrastive search and DoLa read, in every layout that models have."""

from collections.abc import Sequence
from typing import Any

import torch

from textgen.errors import UserError
from textgen.evaluation.decoding.prefix.prefix import run_model
from textgen.evaluation.decoding.strategies import Strategy
from textgen.model.contexts import evaluating
from textgen.model.layers import transformer_blocks, without_adapters


def candidate_layers(layers: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
    """The hidden states that DoLa contrasts the last ones with: those of every other layer of the second half."""
    last = len(layers) - 1  # layer 0 is the embedding
    return layers[last // 2 : last : 2]


def early_logits(model: Any, states: torch.Tensor) -> torch.Tensor:
    """The output head applied to an earlier layer's states, [rows, width]: logits [rows, vocabulary], float32.

    If the head is narrower than the layers, the model's own projection comes before it (OPT-350m).
    """
    head = model.get_output_embeddings()
    projection = _projection(model, states.shape[-1], head.weight.shape[1])
    assert projection is not None, "check_hidden_states was not called"
    logits: torch.Tensor = head(projection(states)).float()
    return logits


def _projection(model: Any, width: int, head_width: int) -> Any:
    """The linear layer outside of the repeated ones that maps layers' states to what the head reads; None if there is
    none."""
    if width == head_width:
        return torch.nn.Identity()
    inside = {id(module) for block in transformer_blocks(model) for module in block.modules()}
    for module in model.modules():
        shape = (getattr(module, "in_features", None), getattr(module, "out_features", None))
        if shape == (width, head_width) and id(module) not in inside:
            return module
    return None


def check_hidden_states(model: Any, strategies: Sequence[Strategy]) -> None:
    """Check that the model's hidden states are what the strategies that read them need.

    Args:
        model: the model, on its device.
        strategies: all strategies that will be decoded.

    Raises:
        UserError: they are not, such as in models with several parallel streams of hidden states.
    """
    decoders = {strategy.decoder for strategy in strategies} & {"contrastive_search", "dola"}
    if not decoders:
        return
    tokens = torch.zeros(1, 2, dtype=torch.long, device=next(model.parameters()).device)
    with torch.no_grad(), evaluating(model):
        layers = run_model(model, tokens, hidden=True).hidden_states or []
    head = getattr(model.get_output_embeddings(), "weight", None)
    usable = {
        "contrastive_search": len(layers) > 0 and layers[-1].shape[:-1] == tokens.shape,
        "dola": head is not None
        and len(layers) > 1
        and all(
            states.shape[:-1] == tokens.shape and _projection(model, states.shape[-1], head.shape[1]) is not None
            for states in candidate_layers(layers)
        ),
    }
    refused = [strategy.name for strategy in strategies if not usable.get(strategy.decoder, True)]
    if refused:
        raise UserError(
            f"--strategies {','.join(refused)}: needs one hidden state per token and layer that the output head can "
            f"read, and {type(without_adapters(model)).__name__} has none. Leave it out."
        )
