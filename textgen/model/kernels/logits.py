"""The output head, applied to a chunk of hidden states at a time.

With a large vocabulary, the logits of a few hundred tokens are as large as a small model. Code that needs logits
computes one chunk, uses it, and drops it before it computes the next.
"""

import math

import torch

from textgen.model.kernels.linear import is_supported, onednn_linear

MAX_CHUNK_BYTES = 64 * 2**20  # float32 logits per chunk: enough rows for full matmul speed, small next to a model


def compute_logits(hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """``hidden @ weight.T + bias``: the matrix multiplication in the inputs' dtype, the sum in float32; no gradients.

    Args:
        hidden: hidden states, (N, D).
        weight: the head's weight, (V, D).
        bias: the head's bias, (V,), or None.

    Returns:
        (N, V) in float32, a new tensor that the caller may overwrite.
    """
    product = onednn_linear(hidden, weight, None) if is_supported(hidden, weight) else hidden @ weight.t()
    logits = product.float()
    return logits if bias is None else logits.add_(bias)


def rows_per_chunk(rows: int, vocabulary_size: int, max_rows: int | None = None) -> int:
    """Rows per chunk, such that all chunks are about equally large.

    Args:
        rows: number of rows in total.
        vocabulary_size: logits per row.
        max_rows: limit per chunk. Default: as many rows as fit into :data:`MAX_CHUNK_BYTES`.
    """
    max_rows = max_rows or max(1, MAX_CHUNK_BYTES // (4 * vocabulary_size))
    return max(1, math.ceil(rows / math.ceil(max(1, rows) / max_rows)))
