"""The product of an output head with some hidden states at a time, in memory that is used again and again.

A vocabulary is an awkward width: rows of 50,257 numbers begin anywhere in a cache line, and a product so wide goes
through the head's weights in an order that suits none of the caches. With rows that begin at a multiple of 64 and 2,048
columns at a time, the product of 256 rows takes two thirds of the time on a CPU (benchmarks/products.py).
"""

import math

import torch

BYTES = 64 * 2**20  # of float32 logits at a time: rows enough for full speed of the products, small beside a model
_ALIGNED = 64  # numbers
_COLUMNS = 2048  # of the product at a time, on a CPU


class LogitsBuffer:
    """Room for the logits of some rows.

    Args:
        weight: (V, D), the head's; products are taken in its dtype.
        rows: as many as :meth:`fill` is given at most.
    """

    def __init__(self, weight: torch.Tensor, rows: int) -> None:
        self.weight = weight
        width = math.ceil(len(weight) / _ALIGNED) * _ALIGNED
        self._product = weight.new_empty(rows, width)
        # Softmax and sums are always taken in float32, whatever the product's dtype.
        whole = self._product.dtype == torch.float32
        self._logits = self._product if whole else torch.empty_like(self._product, dtype=torch.float32)

    def fill(self, hidden: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        """``hidden @ weight.T + bias`` in float32, (N, at least V), of ``hidden`` (N, D); past column V it is -inf, so
        that a softmax is nothing there. Valid until the next call."""
        vocabulary = len(self.weight)
        product, logits = self._product[: len(hidden)], self._logits[: len(hidden)]
        columns = _COLUMNS if hidden.device.type == "cpu" else vocabulary
        for first in range(0, vocabulary, columns):
            last = min(first + columns, vocabulary)
            torch.mm(hidden, self.weight[first:last].t(), out=product[:, first:last])
        if logits is not product:
            logits.copy_(product)
        if bias is not None:
            logits[:, :vocabulary] += bias
        logits[:, vocabulary:] = -math.inf
        return logits

    def rounded(self, logits: torch.Tensor) -> torch.Tensor:
        """What became of the logits of the last :meth:`fill`, (N, V), in the dtype of the product."""
        product = self._product[: len(logits)]
        if product.dtype != logits.dtype:
            product.copy_(logits)
        return product[:, : len(self.weight)]


def rows_at_once(rows: int, vocabulary: int, most: int | None = None) -> int:
    """How many of ``rows`` to take at a time so that their logits stay within :data:`BYTES`, or so that there are no
    more than ``most``: parts of one size, rather than a small last one."""
    most = most or max(1, BYTES // (4 * vocabulary))
    return max(1, math.ceil(rows / math.ceil(max(1, rows) / most)))
