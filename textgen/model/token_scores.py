"""What a model makes of given tokens, without ever holding the logits of all of them.

For every scored token: its nll, whether it was the likeliest or among the five likeliest, and how sure the model was of
what it took for the likeliest. The output head runs at scored positions only, a chunk at a time: GPT-2's logits of 8 ×
1,024 tokens would take 1.6 GB, and their softmax as much again.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from textgen.model.contexts import bypassed
from textgen.model.kernels.logits import head_logits, rows_at_once
from textgen.model.loss import separate_head

TOP = 5


@dataclass(frozen=True)
class TokenScores:
    """One entry a scored token, in the order in which they were asked for; all of shape (N,).

    Attributes:
        nll: float32, in nats.
        likeliest: int64, the token that the model took for the likeliest.
        confidence: float32, the probability of that token.
        among_top: bool, whether the scored token is among the five likeliest. Ties are broken as ``torch.topk`` does.
    """

    nll: torch.Tensor
    likeliest: torch.Tensor
    confidence: torch.Tensor
    among_top: torch.Tensor

    def split(self, sizes: list[int]) -> "list[TokenScores]":
        """Parts of these sizes, on the CPU."""
        columns = (self.nll, self.likeliest, self.confidence, self.among_top)
        return [TokenScores(*parts) for parts in zip(*(column.cpu().split(sizes) for column in columns), strict=True)]


def without_gradients(model: torch.nn.Module) -> Any:
    """The leanest context to run the model in: inference mode, or ``no_grad`` where something made inside is kept.

    ``fully_shard`` keeps gathered parameters, bitsandbytes what it unpacked and ``torch.compile`` what it traced, and
    the backward pass of a later training step refuses tensors that were made in inference mode.
    """
    kept = any(isinstance(module, FSDPModule) or module._compiled_call_impl for module in model.modules())
    kept = kept or not all(parameter.is_floating_point() for parameter in model.parameters())
    return torch.no_grad() if kept else torch.inference_mode()


def scoring_head(model: Any) -> torch.nn.Linear | None:
    """The output head, if it can be run by itself on this process; None if only the model as a whole gives logits.

    Where parameters are sharded, all processes call it together.
    """
    if getattr(model, "get_output_embeddings", None) is None:
        return None
    head = separate_head(model)
    whole = head is not None and not isinstance(head.weight, DTensor) and head.weight.is_floating_point()
    return head if whole else None


def score_tokens(
    model: Any,
    head: torch.nn.Linear | None,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor | None,
    positions: torch.Tensor,
    targets: torch.Tensor,
) -> TokenScores:
    """How well one forward pass predicts ``targets`` at ``positions``.

    Args:
        model: a causal language model, in evaluation mode.
        head: its :func:`scoring_head`.
        input_ids: (rows, length).
        attention_mask: (rows, length), or None where there is no padding.
        positions: (N, 2), row and column of the inputs after which each target comes.
        targets: (N,) token ids.
    """
    rows, columns = positions.unbind(1)
    first = int(columns.min())
    if head is not None:
        with bypassed(head):
            hidden = model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).logits
        return score_hidden(hidden[rows, columns], head, targets)
    can_keep = getattr(model, "_supports_logits_to_keep", None)
    keep = {"logits_to_keep": input_ids.shape[1] - first} if can_keep is not None and can_keep() else {}
    logits = model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False, **keep).logits
    columns = columns - (input_ids.shape[1] - logits.shape[1])
    size = rows_at_once(len(targets), logits.shape[-1])
    parts = zip(rows.split(size), columns.split(size), targets.split(size), strict=True)
    return _joined([_look_up(logits[row, column].float(), target) for row, column, target in parts])


def score_hidden(hidden: torch.Tensor, head: torch.nn.Linear, targets: torch.Tensor) -> TokenScores:
    """How well ``hidden @ head.weight.T + head.bias`` predicts the targets: products in the head's dtype, the rest in
    float32.

    Args:
        hidden: (N, D).
        head: of D inputs and V outputs.
        targets: (N,) token ids.
    """
    weight = head.weight.detach()
    bias = None if head.bias is None else head.bias.detach()
    size = rows_at_once(len(targets), len(weight))
    parts = [
        _look_up(head_logits(part.to(weight.dtype), weight, bias), target)
        for part, target in zip(hidden.split(size), targets.split(size), strict=True)
    ]
    return _joined(parts)


def _look_up(logits: torch.Tensor, targets: torch.Tensor) -> TokenScores:
    """The scores of targets (N,) under logits (N, V) in float32, which are overwritten."""
    at_target = logits.gather(1, targets[:, None]).squeeze(1)
    highest, top = logits.topk(min(TOP, logits.shape[1]), dim=1)
    probabilities = torch.softmax(logits, dim=1, out=logits)
    # log Σ exp(logits) from the likeliest token: its probability is at least 1/V, so the logarithm loses nothing.
    confidence = probabilities.gather(1, top[:, :1]).squeeze(1)
    nll = highest[:, 0] - confidence.log() - at_target
    return TokenScores(nll, top[:, 0].clone(), confidence, (top == targets[:, None]).any(dim=1))


def _joined(parts: list[TokenScores]) -> TokenScores:
    return TokenScores(
        nll=torch.cat([part.nll for part in parts]),
        likeliest=torch.cat([part.likeliest for part in parts]),
        confidence=torch.cat([part.confidence for part in parts]),
        among_top=torch.cat([part.among_top for part in parts]),
    )
