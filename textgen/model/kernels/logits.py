"""What an output head makes of some hidden states at a time.

A vocabulary is so wide that the logits of a few hundred rows are as large as a small model. Whoever goes through them
does so in parts, and drops one before it makes the next.
"""

import math

import torch

from textgen.model.kernels.linear import multiply, takes

BYTES = 64 * 2**20  # of float32 logits at a time: rows enough for full speed of the products, small beside a model


def head_logits(hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """``hidden @ weight.T + bias``, the product in the dtype of both and the rest in float32; no gradients.

    Args:
        hidden: (N, D).
        weight: (V, D).
        bias: (V,) or None.

    Returns:
        (N, V), in memory of its own, for the caller to overwrite.
    """
    product = multiply(hidden, weight, None) if takes(hidden, weight) else hidden @ weight.t()
    logits = product.float()
    return logits if bias is None else logits.add_(bias)


def rows_at_once(rows: int, vocabulary: int, most: int | None = None) -> int:
    """How many of ``rows`` to take at a time so that their logits stay within :data:`BYTES`, or so that there are no
    more than ``most``: parts of one size, rather than a small last one."""
    most = most or max(1, BYTES // (4 * vocabulary))
    return max(1, math.ceil(rows / math.ceil(max(1, rows) / most)))
