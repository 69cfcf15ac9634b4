"""The training loss: the summed negative log-likelihood of all targets, computed without storing all logits.

It is a sum so that the caller can divide once, by the number of targets of the whole global batch.

GPT-2 has a vocabulary of 50,257: the logits of 1,024 tokens take 200 MB, and plain cross-entropy stores three such
arrays. Here the output head and the cross-entropy are one fused operation: it processes a chunk of tokens at a time,
and computes the gradients while the chunk's logits exist, as in Liger Kernel (arXiv 2410.10989, section 3.2) and Cut
Cross-Entropy (arXiv 2411.09009).
"""

from typing import Any

import torch
import torch.nn.functional as F

from textgen.data.token_stream import IGNORED
from textgen.model.contexts import evaluating, identity, override_forward
from textgen.model.kernels.linear import matmul_dtype
from textgen.model.kernels.logits import compute_logits, rows_per_chunk
from textgen.model.kernels.tied_embedding import DeferredGradient, accumulate_tied_gradient, defer_gradient
from textgen.model.layers import transformer_blocks

_VOCABULARY_CHUNK = 8192  # rows of the head's weight whose gradient is computed at a time, below float32


class ModelWithLoss(torch.nn.Module):
    """A causal language model whose output is its training loss, the summed nll of the targets.

    Args:
        model: a transformers or peft model; kept as ``.model``, and its parameters are this module's.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.head = [separable_head(model)]  # a list, so that the head is not registered as a submodule again
        # The layers that Accelerate shards separately with FSDP; without this, it shards the model as one layer.
        self._no_split_modules = sorted({type(block).__name__ for block in transformer_blocks(model)})

    def forward(
        self, input_ids: torch.Tensor, labels: torch.Tensor, position_ids: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Summed negative log-likelihood of all targets, in nats: a scalar in float32, with gradient.

        Args:
            input_ids: token ids, (rows, length).
            labels: token ids, (rows, length), not shifted: the prediction at i is compared with the label at i + 1.
            position_ids: (rows, length); those that start again with each document keep the documents of a row apart
                (:mod:`textgen.model.packing`). None: one sequence a row.
        """
        # Without position_ids, the argument is left out: not every model has it.
        where = {} if position_ids is None else {"position_ids": position_ids}
        targets = F.pad(labels[:, 1:], (0, 1), value=IGNORED).reshape(-1)
        head = self.head[0]
        if head is None:
            logits = self.model(input_ids=input_ids, use_cache=False, **where).logits
            nll = F.cross_entropy(logits.flatten(0, 1).float(), targets, ignore_index=IGNORED, reduction="none")
            return nll.sum()
        with override_forward(head, identity), accumulate_tied_gradient(self.model, head) as deferred:
            hidden = self.model(input_ids=input_ids, use_cache=False, **where).logits
        return fused_linear_cross_entropy(hidden.flatten(0, 1), head.weight, head.bias, targets, deferred=deferred)


def separable_head(model: Any) -> torch.nn.Linear | None:
    """The model's output head, if the logits are exactly its output for the last hidden states; otherwise None.

    Decided by trying: the head is replaced by known numbers, which must come out of the model unchanged. Models that
    scale or cap their logits afterwards, or do not call their head module, fail this test.
    """
    head = model.get_output_embeddings()
    if not isinstance(head, torch.nn.Linear):
        return None

    def known_numbers(hidden: torch.Tensor) -> torch.Tensor:
        return torch.linspace(-1000, 1000, hidden.numel(), device=hidden.device).view_as(hidden)

    device = head.weight.device
    with torch.no_grad(), evaluating(model), override_forward(head, known_numbers):
        logits = model(input_ids=torch.zeros(1, 2, dtype=torch.long, device=device), use_cache=False).logits
    same_width = logits.shape[-1] == head.in_features
    return head if same_width and torch.equal(logits.float(), known_numbers(logits)) else None


def fused_linear_cross_entropy(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    targets: torch.Tensor,
    *,
    max_rows: int | None = None,
    deferred: DeferredGradient | None = None,
) -> torch.Tensor:
    """Sum over targets of ``-log softmax(hidden @ weight.T + bias)[target]``, computed in chunks.

    Under autocast, matrix multiplications are in its dtype; softmax and sums are always in float32.

    Args:
        hidden: hidden states, (N, D).
        weight: the head's weight, (V, D); its gradient is computed only if it requires one.
        bias: the head's bias, (V,), or None.
        targets: token ids, (N,); those equal to ``IGNORED`` contribute nothing.
        max_rows: limit on the targets per chunk. Default: :data:`textgen.model.kernels.logits.MAX_CHUNK_BYTES`.
        deferred: where to store the gradient of ``weight`` if an embedding shares it
            (:mod:`textgen.model.kernels.tied_embedding`).

    Returns:
        A scalar in float32. Its gradient can be taken once.
    """
    dtype = matmul_dtype(hidden)
    with torch.autocast(hidden.device.type, enabled=False):
        total: torch.Tensor = _FusedLinearCrossEntropy.apply(hidden, weight, bias, targets, max_rows, dtype, deferred)
    return total


class _FusedLinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        targets: torch.Tensor,
        max_rows: int | None,
        dtype: torch.dtype,
        deferred: DeferredGradient | None,
    ) -> torch.Tensor:
        ctx.deferred = deferred
        scored = (targets != IGNORED).nonzero().squeeze(1)
        matrix = weight.detach().to(dtype)
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        grad_hidden, grad_weight, grad_bias = [
            torch.empty_like(tensor, dtype=torch.float32) if tensor is not None and needs_grad else None
            for tensor, needs_grad in zip((hidden, weight, bias), ctx.needs_input_grad, strict=False)
        ]
        if grad_hidden is not None and len(scored) < len(hidden):
            grad_hidden.zero_()
        chunk_size = rows_per_chunk(len(scored), len(matrix), max_rows)
        for start in range(0, len(scored), chunk_size):
            rows = scored[start : start + chunk_size]
            chunk = hidden.index_select(0, rows).to(dtype)
            logits = compute_logits(chunk, matrix, bias)
            total += _nll_and_logits_gradient(logits, targets.index_select(0, rows))
            grad_logits = logits.to(dtype)  # the logits were overwritten with their gradient
            if grad_hidden is not None:
                grad_hidden.index_copy_(0, rows, (grad_logits @ matrix).float())
            _accumulate(grad_weight, grad_logits, chunk, first=start == 0)
            _accumulate(grad_bias, logits, None, first=start == 0)
            del logits, grad_logits  # before those of the next chunk are allocated
        gradients = [grad_hidden, grad_weight, grad_bias]
        if len(scored) == 0:
            gradients = [None if gradient is None else gradient.zero_() for gradient in gradients]
        ctx.gradients = gradients
        ctx.dtypes = [None if tensor is None else tensor.dtype for tensor in (hidden, weight, bias)]
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_output: torch.Tensor) -> Any:
        gradients, ctx.gradients = ctx.gradients, None
        assert gradients is not None, "the gradient was already taken, and its buffers were freed"
        scaled = [
            None if gradient is None else gradient.mul_(grad_output).to(dtype)
            for gradient, dtype in zip(gradients, ctx.dtypes, strict=True)
        ]
        if ctx.deferred is not None and scaled[1] is not None:
            defer_gradient(scaled[1], ctx.deferred)
            scaled[1] = None
        return *scaled, None, None, None, None


def _nll_and_logits_gradient(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The summed nll of a chunk. Overwrites its logits with their gradient: softmax minus one-hot."""
    target_logits = logits.gather(1, targets[:, None]).squeeze(1)
    highest = logits.amax(dim=1)
    probabilities = torch.softmax(logits, dim=1, out=logits)
    # log Σ exp(logits), from the most likely token: its probability is at least 1/V, so the logarithm is accurate.
    log_partition = highest - probabilities.amax(dim=1).log()
    probabilities.scatter_add_(1, targets[:, None], torch.full_like(target_logits, -1.0)[:, None])
    return (log_partition - target_logits).sum()


def _accumulate(
    total: torch.Tensor | None, grad_logits: torch.Tensor, chunk: torch.Tensor | None, *, first: bool
) -> None:
    """Add a chunk's contribution to the gradient of the head's weight or, without ``chunk``, its bias. The first chunk
    overwrites instead, which saves filling 150 MB with zeros."""
    if total is None:
        return
    if chunk is not None and chunk.dtype == total.dtype:
        torch.addmm(total, grad_logits.t(), chunk, beta=0.0 if first else 1.0, out=total)
        return
    # In lower precision, a contribution and its float32 copy would take 230 MB, so both are computed in parts.
    for part, grad_part in zip(
        total.split(_VOCABULARY_CHUNK), grad_logits.split(_VOCABULARY_CHUNK, dim=1), strict=True
    ):
        contribution = grad_part.sum(dim=0) if chunk is None else grad_part.t() @ chunk
        part.copy_(contribution) if first else part.add_(contribution)
