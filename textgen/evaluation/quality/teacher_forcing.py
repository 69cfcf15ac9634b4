"""Likelihoods of given texts by teacher forcing: one forward pass over each, on all processes, in bounded memory."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object

from textgen.evaluation.batching import pack_batches, share_batches
from textgen.evaluation.loaded_model import LoadedModel
from textgen.model.contexts import evaluating
from textgen.model.layers import accepts_logits_to_keep

_MAX_POSITIONS = 512  # with logits in one forward pass: 0.1 GB for GPT-2's vocabulary in float32
_CHUNK = 128  # positions whose log-probabilities are in memory at a time


@dataclass(frozen=True)
class Span:
    """Context tokens, and the tokens after them whose probabilities are wanted: the targets."""

    context_ids: Sequence[int]
    target_ids: Sequence[int]


PositionScores = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""From log-probabilities [positions, vocabulary] and targets [positions] to values of each position [positions,
columns]."""


def score_spans(loaded: LoadedModel, spans: Sequence[Span], score: PositionScores, *, columns: int) -> list[np.ndarray]:
    """The values that ``score`` computes at the targets of each span, [targets, columns] each.

    The same on every process. Logits are computed only at the positions that predict targets, one batch at a time.

    Args:
        loaded: the model.
        spans: the texts; a span with targets needs at least one context token.
        score: called with float32 log-probabilities of the model at temperature 1, for up to 128 positions of one span
            at a time, in order.
        columns: number of values that ``score`` returns per position.
    """
    with_targets = [index for index, span in enumerate(spans) if len(span.target_ids)]
    assert all(len(spans[index].context_ids) for index in with_targets), "nothing precedes the first target"
    batches = span_batches(spans, with_targets)
    mine: list[tuple[int, np.ndarray]] = []
    with evaluating(loaded.model), torch.no_grad():
        for _, batch in share_batches(loaded.accelerator, batches):
            values = _score_batch(loaded.model, [spans[index] for index in batch], score, loaded.device)
            mine += zip(batch, values, strict=True)
    by_index = dict(gather_object(mine))
    assert sorted(by_index) == with_targets, "spans were lost"
    return [by_index.get(index, np.zeros((0, columns))) for index in range(len(spans))]


def span_batches(spans: Sequence[Span], indices: Sequence[int]) -> list[list[int]]:
    """The ``indices`` of spans in batches of similar lengths, with at most 512 positions of logits per batch.

    A single span with more positions is a batch of its own.
    """
    # A batch computes logits from the earliest target of any of its rows.
    ranges = [(len(span.context_ids), len(span.context_ids) + len(span.target_ids)) for span in spans]
    order = sorted(indices, key=lambda index: (ranges[index][1], ranges[index][0], index), reverse=True)
    return pack_batches(order, ranges, _MAX_POSITIONS)


def _score_batch(model: Any, batch: Sequence[Span], score: PositionScores, device: torch.device) -> list[np.ndarray]:
    # The last token is not an input, since nothing after it is a target.
    rows = [[*span.context_ids, *span.target_ids] for span in batch]
    longest = max(len(row) for row in rows) - 1
    inputs = torch.zeros((len(rows), longest), dtype=torch.long)
    mask = torch.zeros_like(inputs)
    for index, row in enumerate(rows):
        inputs[index, : len(row) - 1] = torch.tensor(row[:-1])
        mask[index, : len(row) - 1] = 1
    first = min(len(span.context_ids) for span in batch) - 1  # position that predicts the earliest target
    keep = {"logits_to_keep": longest - first} if accepts_logits_to_keep(model) else {}
    logits = model(input_ids=inputs.to(device), attention_mask=mask.to(device), use_cache=False, **keep).logits
    skipped = longest - logits.shape[1]
    results = []
    for span, row in zip(batch, logits, strict=True):
        begin = len(span.context_ids) - 1 - skipped
        predictions = row[begin : begin + len(span.target_ids)].split(_CHUNK)
        targets = torch.tensor(list(span.target_ids), device=row.device).split(_CHUNK)
        parts = [score(part.float().log_softmax(dim=-1), ids) for part, ids in zip(predictions, targets, strict=True)]
        results.append(torch.cat(parts).cpu().double().numpy())
    return results
