"""The gradient of a weight shared by embedding and output head, accumulated in one buffer.

With plain autograd, the embedding and the output head each produce a gradient the size of the vocabulary, and the
embedding's is zero except in the rows of tokens that occurred. Here the head's gradient is deferred, and the embedding,
whose backward pass runs last, adds its rows to it: 154 MB less for GPT-2 (docs/log.md).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F

from textgen.model.contexts import override_forward

DeferredGradient = list[torch.Tensor]
"""Holds the head's gradient between the head's and the embedding's backward pass; empty otherwise."""


@contextmanager
def accumulate_tied_gradient(model: Any, head: torch.nn.Module) -> Iterator[DeferredGradient | None]:
    """Make the model's embedding add the gradient that :func:`defer_gradient` stores to its own.

    Yields:
        Where to store it; None if embedding and head do not share a trainable weight, or the embedding is not a plain
        one.
    """
    embedding = model.get_input_embeddings()
    plain = type(embedding) is torch.nn.Embedding and (
        embedding.padding_idx is embedding.max_norm is None and not embedding.scale_grad_by_freq
    )
    if not (plain and embedding.weight is head.weight and embedding.weight.requires_grad and torch.is_grad_enabled()):
        yield None
        return
    deferred: DeferredGradient = []
    with override_forward(embedding, lambda ids: _AccumulatingEmbedding.apply(ids, embedding.weight, deferred)):
        yield deferred


def defer_gradient(gradient: torch.Tensor, deferred: DeferredGradient) -> None:
    """Leave the head's gradient to the embedding. Call it in a backward pass, which fails if the embedding has none."""

    def check_consumed() -> None:
        assert not deferred, "the embedding took no part in the backward pass, so its head's gradient would be lost"

    deferred.append(gradient)
    torch.autograd.Variable._execution_engine.queue_callback(check_consumed)


class _AccumulatingEmbedding(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, ids: torch.Tensor, weight: torch.Tensor, deferred: DeferredGradient) -> torch.Tensor:
        ctx.save_for_backward(ids)
        ctx.deferred, ctx.shape, ctx.dtype = deferred, weight.shape, weight.dtype
        return F.embedding(ids, weight)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_output: torch.Tensor) -> Any:
        (ids,) = ctx.saved_tensors
        rows, width = ctx.shape
        if ctx.deferred:
            gradient = ctx.deferred.pop()
        else:
            gradient = torch.zeros(ctx.shape, dtype=ctx.dtype, device=grad_output.device)
        if grad_output.device.type == "cpu":  # adds rows in order
            gradient.index_add_(0, ids.reshape(-1), grad_output.reshape(-1, width).to(ctx.dtype))
        else:  # a GPU's index_add_ adds in any order, so its results would not be reproducible
            gradient += torch.ops.aten.embedding_dense_backward(grad_output, ids, rows, -1, False)
        return None, gradient, None
