"""Scores of given tokens under a model, computed without storing all logits.

For every scored token: its nll, whether it is the most likely token or among the top five, and the probability of the
most likely token. The output head runs at scored positions only, one chunk at a time: GPT-2's logits of 8 × 1,024
tokens would take 1.6 GB, and their softmax as much again.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from textgen.model.contexts import identity, override_forward
from textgen.model.kernels.logits import compute_logits, rows_per_chunk
from textgen.model.layers import accepts_logits_to_keep
from textgen.model.loss import separable_head

TOP = 5


@dataclass(frozen=True)
class TokenScores:
    """One entry per scored token, in the order of the positions given; all of shape (N,).

    Attributes:
        nll: float32, in nats.
        likeliest: int64, the most likely token.
        confidence: float32, the probability of the most likely token.
        among_top: bool, whether the scored token is one of the five most likely. Ties are broken as by ``torch.topk``.
    """

    nll: torch.Tensor
    likeliest: torch.Tensor
    confidence: torch.Tensor
    among_top: torch.Tensor

    def split(self, sizes: list[int]) -> "list[TokenScores]":
        """Consecutive parts of the given sizes, on the CPU."""
        columns = (self.nll, self.likeliest, self.confidence, self.among_top)
        return [TokenScores(*parts) for parts in zip(*(column.cpu().split(sizes) for column in columns), strict=True)]


def without_gradients(model: torch.nn.Module) -> Any:
    """A context for running the model without gradients: inference mode or, if training must continue, ``no_grad``.

    FSDP2 keeps gathered parameters, bitsandbytes dequantized weights and ``torch.compile`` traced tensors, and the
    backward pass of a later training step fails on tensors that were created in inference mode.
    """
    keeps_tensors = any(isinstance(module, FSDPModule) or module._compiled_call_impl for module in model.modules())
    keeps_tensors = keeps_tensors or not all(parameter.is_floating_point() for parameter in model.parameters())
    return torch.no_grad() if keeps_tensors else torch.inference_mode()


def scoring_head(model: Any) -> torch.nn.Linear | None:
    """The output head, if this process can run it separately; None if logits must come from the whole model.

    If parameters are sharded, all processes must call this.
    """
    if getattr(model, "get_output_embeddings", None) is None:
        return None
    head = separable_head(model)
    usable = head is not None and not isinstance(head.weight, DTensor) and head.weight.is_floating_point()
    return head if usable else None


def score_tokens(
    model: Any,
    head: torch.nn.Linear | None,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor | None,
    positions: torch.Tensor,
    targets: torch.Tensor,
) -> TokenScores:
    """Scores of targets after one forward pass.

    Args:
        model: a causal language model, in evaluation mode.
        head: the model's :func:`scoring_head`.
        input_ids: token ids, (rows, length).
        attention_mask: 1 for tokens and 0 for padding, (rows, length); None if there is no padding.
        positions: row and column of the input token before each target, (N, 2).
        targets: token ids to score, (N,).
    """
    rows, columns = positions.unbind(1)
    if head is not None:
        with override_forward(head, identity):
            hidden = model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).logits
        return score_hidden(hidden[rows, columns], head, targets)
    keep = {"logits_to_keep": input_ids.shape[1] - int(columns.min())} if accepts_logits_to_keep(model) else {}
    logits = model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False, **keep).logits
    columns = columns - (input_ids.shape[1] - logits.shape[1])
    size = rows_per_chunk(len(targets), logits.shape[-1])
    parts = zip(rows.split(size), columns.split(size), targets.split(size), strict=True)
    return _concatenate([_scores_of(logits[row, column].float(), target) for row, column, target in parts])


def score_hidden(hidden: torch.Tensor, head: torch.nn.Linear, targets: torch.Tensor) -> TokenScores:
    """Scores of targets given hidden states: matrix multiplications in the head's dtype, the rest in float32.

    Args:
        hidden: hidden states, (N, D).
        head: the output head, with D inputs and V outputs.
        targets: token ids to score, (N,).
    """
    weight = head.weight.detach()
    bias = None if head.bias is None else head.bias.detach()
    size = rows_per_chunk(len(targets), len(weight))
    parts = [
        _scores_of(compute_logits(part.to(weight.dtype), weight, bias), target)
        for part, target in zip(hidden.split(size), targets.split(size), strict=True)
    ]
    return _concatenate(parts)


def _scores_of(logits: torch.Tensor, targets: torch.Tensor) -> TokenScores:
    """Scores of targets (N,), given logits (N, V) in float32, which are overwritten."""
    target_logits = logits.gather(1, targets[:, None]).squeeze(1)
    highest, top = logits.topk(min(TOP, logits.shape[1]), dim=1)
    probabilities = torch.softmax(logits, dim=1, out=logits)
    # log Σ exp(logits), from the most likely token: its probability is at least 1/V, so the logarithm is accurate.
    confidence = probabilities.gather(1, top[:, :1]).squeeze(1)
    nll = highest[:, 0] - confidence.log() - target_logits
    return TokenScores(nll, top[:, 0].clone(), confidence, (top == targets[:, None]).any(dim=1))


def _concatenate(parts: list[TokenScores]) -> TokenScores:
    return TokenScores(
        nll=torch.cat([part.nll for part in parts]),
        likeliest=torch.cat([part.likeliest for part in parts]),
        confidence=torch.cat([part.confidence for part in parts]),
        among_top=torch.cat([part.among_top for part in parts]),
    )
