"""Several documents in one row that do not see each other, for ``--packing isolated``.

Position ids that start again with each document are enough: transformers makes a block-diagonal attention mask of them,
or hands the lengths to flash attention. Not every architecture heeds them, so the model is asked.
"""

from typing import Any

import torch

from textgen.errors import UserError
from textgen.model.contexts import evaluating

TOLERANCE = 1e-4  # of the largest logit; rounding is below 1e-6, and a seen document changes logits by more than 1e-2
_LENGTHS = (5, 7)


def isolates_documents(model: Any) -> bool:
    """Whether a document's logits in a row with others are those that it has in a row of its own.

    Args:
        model: a causal language model; two rows of 12 tokens are tried.
    """
    vocabulary = model.get_input_embeddings().weight.shape[0]
    device = model.get_input_embeddings().weight.device
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(vocabulary, (2, sum(_LENGTHS)), generator=generator).to(device)
    positions = torch.cat([torch.arange(n) for n in _LENGTHS]).to(device).expand(2, -1)
    with torch.no_grad(), evaluating(model):
        try:
            together = model(input_ids=ids, position_ids=positions, use_cache=False).logits
        except TypeError:  # no position_ids
            return False
        apart = [model(input_ids=part, use_cache=False).logits for part in ids.split(_LENGTHS, dim=1)]
    alone = torch.cat(apart, dim=1)
    return bool((together - alone).abs().max() <= TOLERANCE * alone.abs().max())


def check_isolation(model: Any, name: str) -> None:
    """Check that a model can be trained with ``--packing isolated``.

    Raises:
        UserError: its documents would see each other.
    """
    if not isolates_documents(model):
        raise UserError(
            f"--packing isolated: {name} does not keep documents in one row apart: its layers ignore where a position "
            "starts again. Use --packing none, which gives each document its own row, or --packing joined."
        )
