"""The loss as a sum, so that whoever adds it up can divide once, by what was really counted; without all the logits.

GPT-2 has a vocabulary of 50,257: the logits of 1,024 tokens take 200 MB, and a plain cross-entropy holds three such
arrays. Here the output head and the cross-entropy are one operation that goes through the tokens a chunk at a time and
computes the gradients while a chunk's logits are there, as in Liger Kernel (arXiv 2410.10989, section 3.2) and Cut
Cross-Entropy (arXiv 2411.09009).
"""

from typing import Any

import torch
import torch.nn.functional as F

from textgen.data.blocks import IGNORED
from textgen.model.contexts import bypassed, evaluating
from textgen.model.kernels.linear import dtype_of_products
from textgen.model.kernels.logits import head_logits, rows_at_once
from textgen.model.kernels.tied_embedding import Aside, gradient_in_one_piece, put_aside
from textgen.model.layers import transformer_blocks

_VOCABULARY = 8192  # tokens of it for which the head's gradient is made at a time, in lower precisions


class ScoredModel(torch.nn.Module):
    """A causal language model that answers with the summed nll of its targets, and never holds all its logits.

    Args:
        model: a transformers or peft model; kept as ``.model``, its parameters are this module's.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.head = [separate_head(model)]  # in a list, which keeps it from being registered a second time
        # What Accelerate shards by, where it is asked to; without it, it would take the model for one layer.
        self._no_split_modules = sorted({type(block).__name__ for block in transformer_blocks(model)})

    def forward(
        self, input_ids: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Negative log-likelihood of all targets, in nats, summed: a scalar in float32, with gradient.

        Args:
            input_ids: (rows, length) token ids.
            labels: (rows, length), unshifted: the prediction at position i is held against the label at i + 1.
            weights: (rows, length), of each label; 1 if not given.
        """
        targets = F.pad(labels[:, 1:], (0, 1), value=IGNORED).reshape(-1)
        scales = None if weights is None else F.pad(weights[:, 1:], (0, 1)).reshape(-1)
        head = self.head[0]
        if head is None:
            logits = self.model(input_ids=input_ids, use_cache=False).logits
            nll = F.cross_entropy(logits.flatten(0, 1).float(), targets, ignore_index=IGNORED, reduction="none")
            return (nll if scales is None else nll * scales).sum()
        with bypassed(head), gradient_in_one_piece(self.model, head) as aside:
            hidden = self.model(input_ids=input_ids, use_cache=False).logits
        return linear_nll(hidden.flatten(0, 1), head.weight, head.bias, targets, scales, aside=aside)


def separate_head(model: Any) -> torch.nn.Linear | None:
    """The model's output head, if logits are what it alone makes of the last hidden state; None if not.

    Decided by trying: the head is replaced by numbers that must come out of the model as they are. Models that scale
    or cap their logits afterwards, or do not go through their head module, fail this.
    """
    head = model.get_output_embeddings()
    if not isinstance(head, torch.nn.Linear):
        return None

    def numbers(hidden: torch.Tensor) -> torch.Tensor:
        return torch.linspace(-1000, 1000, hidden.numel(), device=hidden.device).view_as(hidden)

    device = head.weight.device
    with torch.no_grad(), evaluating(model), bypassed(head, numbers):
        logits = model(input_ids=torch.zeros(1, 2, dtype=torch.long, device=device), use_cache=False).logits
    same_width = logits.shape[-1] == head.in_features
    return head if same_width and torch.equal(logits.float(), numbers(logits)) else None


def linear_nll(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    targets: torch.Tensor,
    weights: torch.Tensor | None = None,
    *,
    chunk: int | None = None,
    aside: Aside | None = None,
) -> torch.Tensor:
    """Sum over targets of ``weights * -log softmax(hidden @ weight.T + bias)[target]``, a chunk of targets at a time.

    Under autocast, products are taken in its dtype; softmax and sums are always in float32.

    Args:
        hidden: (N, D).
        weight: (V, D); no gradient is computed for it where it asks for none.
        bias: (V,) or None.
        targets: (N,) token ids; ``IGNORED`` ones cost nothing.
        weights: (N,) or None for 1.
        chunk: targets at a time, at most; by :data:`textgen.model.kernels.logits.BYTES` if not given.
        aside: where to put the gradient of ``weight`` for an embedding that shares it (``kernels/tied_embedding.py``).

    Returns:
        A scalar in float32. Its gradient can be taken once.
    """
    dtype = dtype_of_products(hidden)
    with torch.autocast(hidden.device.type, enabled=False):
        total: torch.Tensor = _LinearNll.apply(hidden, weight, bias, targets, weights, chunk, dtype, aside)
    return total


class _LinearNll(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        targets: torch.Tensor,
        weights: torch.Tensor | None,
        most: int | None,
        dtype: torch.dtype,
        aside: Aside | None,
    ) -> torch.Tensor:
        ctx.aside = aside
        scored = (targets != IGNORED).nonzero().squeeze(1)
        matrix = weight.detach().to(dtype)
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        of_hidden, of_weight, of_bias = [
            torch.empty_like(tensor, dtype=torch.float32) if tensor is not None and wanted else None
            for tensor, wanted in zip((hidden, weight, bias), ctx.needs_input_grad, strict=False)
        ]
        if of_hidden is not None and len(scored) < len(hidden):
            of_hidden.zero_()
        chunk = rows_at_once(len(scored), len(matrix), most)
        for start in range(0, len(scored), chunk):
            rows = scored[start : start + chunk]
            part = hidden.index_select(0, rows).to(dtype)
            logits = head_logits(part, matrix, bias)
            scales = None if weights is None else weights.index_select(0, rows).float()
            total += _nll_and_softmax_gradient(logits, targets.index_select(0, rows), scales)
            grad_logits = logits.to(dtype)  # for by now they are the gradient of the logits
            if of_hidden is not None:
                of_hidden.index_copy_(0, rows, (grad_logits @ matrix).float())
            _accumulate(of_weight, grad_logits, part, first=start == 0)
            _accumulate(of_bias, logits, None, first=start == 0)
            del logits, grad_logits  # before there are those of the next chunk
        gradients = [of_hidden, of_weight, of_bias]
        if len(scored) == 0:
            gradients = [None if gradient is None else gradient.zero_() for gradient in gradients]
        ctx.gradients = gradients
        ctx.dtypes = [None if tensor is None else tensor.dtype for tensor in (hidden, weight, bias)]
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: torch.Tensor) -> Any:
        gradients, ctx.gradients = ctx.gradients, None
        assert gradients is not None, "the gradient of linear_nll was taken before, and its buffers are gone"
        scaled = [
            None if gradient is None else gradient.mul_(upstream).to(dtype)
            for gradient, dtype in zip(gradients, ctx.dtypes, strict=True)
        ]
        if ctx.aside is not None and scaled[1] is not None:
            put_aside(scaled[1], ctx.aside)
            scaled[1] = None
        return *scaled, None, None, None, None, None


def _nll_and_softmax_gradient(logits: torch.Tensor, targets: torch.Tensor, scales: torch.Tensor | None) -> torch.Tensor:
    """The summed nll of a chunk, whose logits are overwritten with the gradient: softmax less one-hot, scaled."""
    at_target = logits.gather(1, targets[:, None]).squeeze(1)
    highest = logits.amax(dim=1)
    probabilities = torch.softmax(logits, dim=1, out=logits)
    # log Σ exp(logits) from the likeliest token: its probability is at least 1/V, so the logarithm loses nothing.
    log_partition = highest - probabilities.amax(dim=1).log()
    nll = log_partition - at_target
    probabilities.scatter_add_(1, targets[:, None], torch.full_like(at_target, -1.0)[:, None])
    if scales is not None:
        probabilities.mul_(scales[:, None])
        nll = nll * scales
    return nll.sum()


def _accumulate(
    total: torch.Tensor | None, grad_logits: torch.Tensor, part: torch.Tensor | None, *, first: bool
) -> None:
    """Add a chunk's share of the head's gradient, of its weight or (without ``part``) its bias; the first one is
    written in its place, which saves filling 150 MB with zeros."""
    if total is None:
        return
    if part is not None and part.dtype == total.dtype:
        torch.addmm(total, grad_logits.t(), part, beta=0.0 if first else 1.0, out=total)
        return
    # A share of lower precision is never there as a whole: it and its copy in float32 would take 230 MB.
    for some, of_some in zip(total.split(_VOCABULARY), grad_logits.split(_VOCABULARY, dim=1), strict=True):
        share = of_some.sum(dim=0) if part is None else of_some.t() @ part
        some.copy_(share) if first else some.add_(share)
