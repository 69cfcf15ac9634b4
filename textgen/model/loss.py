"""The loss as a sum, so that whoever adds it up can divide once, by what was really counted."""

import torch
import torch.nn.functional as F

from textgen.data.blocks import IGNORED


def nll_sum(model: torch.nn.Module, input_ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Negative log-likelihood of all targets, in nats, summed.

    Args:
        model: a causal language model that returns ``.logits`` of shape (rows, length, vocabulary).
        input_ids: (rows, length) token ids.
        labels: (rows, length), unshifted: the prediction at position i is held against the label at i + 1.

    Returns:
        A scalar in float32, with gradient.
    """
    logits = model(input_ids=input_ids, use_cache=False).logits
    return F.cross_entropy(
        logits[:, :-1].reshape(-1, logits.shape[-1]).float(),
        labels[:, 1:].reshape(-1),
        ignore_index=IGNORED,
        reduction="sum",
    )
