"""The gradient of a weight that both embeds tokens and scores them, added up in place.

Left to autograd, the shares that the embedding and the output head have in it are two arrays of the vocabulary's size,
and the embedding's is zero but for the rows of the tokens that were there. Here the head's share is put aside, and the
embedding, whose turn comes last, adds its rows to it: for GPT-2, 154 MB less (docs/log.md).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F

from textgen.model.contexts import bypassed

Aside = list[torch.Tensor]
"""Where the head's share is between the head's backward pass and the embedding's."""


@contextmanager
def gradient_in_one_piece(model: Any, head: torch.nn.Module) -> Iterator[Aside | None]:
    """Inside, the model's embedding takes up what :func:`put_aside` puts where this says; None where the two share no
    weight that is trained, or the embedding is not a plain one."""
    embedding = model.get_input_embeddings()
    plain = type(embedding) is torch.nn.Embedding and (
        embedding.padding_idx is embedding.max_norm is None and not embedding.scale_grad_by_freq
    )
    if not (plain and embedding.weight is head.weight and embedding.weight.requires_grad and torch.is_grad_enabled()):
        yield None
        return
    aside: Aside = []
    with bypassed(embedding, lambda ids: _Embedding.apply(ids, embedding.weight, aside)):
        yield aside


def put_aside(gradient: torch.Tensor, aside: Aside) -> None:
    """Leave the head's share for the embedding; within a backward pass, which fails if nothing takes it up."""

    def taken() -> None:
        assert not aside, "the embedding took no part in the backward pass, and its head's gradient would be lost"

    aside.append(gradient)
    torch.autograd.Variable._execution_engine.queue_callback(taken)


class _Embedding(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, ids: torch.Tensor, weight: torch.Tensor, aside: Aside) -> torch.Tensor:
        ctx.save_for_backward(ids)
        ctx.aside, ctx.like = aside, (weight.shape, weight.dtype)
        return F.embedding(ids, weight)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: torch.Tensor) -> Any:
        (ids,) = ctx.saved_tensors
        shape, dtype = ctx.like
        gradient = ctx.aside.pop() if ctx.aside else torch.zeros(shape, dtype=dtype, device=upstream.device)
        if upstream.device.type == "cpu":  # which adds them one after the other
            gradient.index_add_(0, ids.reshape(-1), upstream.reshape(-1, shape[1]).to(dtype))
        else:  # where adding in place would add in any order, and a run must end in the same bits
            gradient += torch.ops.aten.embedding_dense_backward(upstream, ids, shape[0], -1, False)
        return None, gradient, None
