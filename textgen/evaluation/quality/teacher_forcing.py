"""What a model thinks of texts that are already there: one pass over each, on all processes, in bounded memory."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from textgen.evaluation.decoding.prefix_cache import accepts_logits_to_keep
from textgen.model.contexts import evaluating

_POSITIONS_AT_ONCE = 512  # whose logits a forward pass gives: 0.1 GB for GPT-2's vocabulary in float32
_READ_AT_ONCE = 128  # of these, whose log-probabilities are held at a time


@dataclass(frozen=True)
class Given:
    """Tokens that a model reads, and tokens after them that it is asked about."""

    prompt: Sequence[int]
    continuation: Sequence[int]


Reader = Callable[[int, torch.Tensor, torch.Tensor], torch.Tensor]
"""From a number of ``given``, log-probabilities [positions, vocabulary] and targets [positions] to what is wanted of
each position: [positions, columns]."""


def read_continuations(
    accelerator: Accelerator, model: Any, given: Sequence[Given], read: Reader, *, columns: int
) -> list[np.ndarray]:
    """What ``read`` makes of each position of each continuation: [positions, columns] each, the same on every process.

    ``read`` is called with float32 log-probabilities of the model at temperature 1, for some positions of one
    continuation at a time, in order. An empty continuation gives [0, columns]. Prompts need at least one token. Logits
    are computed at positions that are asked about, and never for more than a batch of them.
    """
    asked = [number for number, one in enumerate(given) if len(one.continuation)]
    assert all(len(given[number].prompt) for number in asked), "nothing comes before the first token"
    batches = plan_batches(given, asked)
    rank, world = accelerator.process_index, accelerator.num_processes
    mine: list[tuple[int, np.ndarray]] = []
    with evaluating(model), torch.no_grad():
        for turn in range(rank, math.ceil(len(batches) / world) * world, world):
            # A process that has no batch left repeats one and drops the result: where parameters are sharded, every
            # process must take part in every forward pass.
            batch = batches[turn % len(batches)]
            found = _read_batch(model, [given[number] for number in batch], batch, read, accelerator.device)
            if turn < len(batches):
                mine += zip(batch, found, strict=True)
    by_number = dict(gather_object(mine))
    assert sorted(by_number) == asked, "continuations were lost"
    return [by_number.get(number, np.zeros((0, columns))) for number in range(len(given))]


def plan_batches(given: Sequence[Given], asked: Sequence[int]) -> list[list[int]]:
    """The numbers in ``asked`` in batches of like lengths, in the same way however many processes there are."""
    order = sorted(asked, key=lambda number: (*_lengths(given[number]), number), reverse=True)
    batches: list[list[int]] = []
    positions = 0
    for number in order:
        one = given[number]
        if batches:
            first = given[batches[-1][0]]
            # What is computed reaches back to the earliest position asked about in any row.
            earliest = min(positions, len(one.prompt))
            width = len(first.prompt) + len(first.continuation) - earliest
            if (len(batches[-1]) + 1) * width <= _POSITIONS_AT_ONCE:
                batches[-1].append(number)
                positions = earliest
                continue
        batches.append([number])
        positions = len(one.prompt)
    return batches


def _lengths(one: Given) -> tuple[int, int]:
    return len(one.prompt) + len(one.continuation), len(one.prompt)


def _read_batch(
    model: Any, batch: Sequence[Given], numbers: Sequence[int], read: Reader, device: torch.device
) -> list[np.ndarray]:
    # The last token is no input: nothing is asked about what comes after it.
    rows = [[*one.prompt, *one.continuation] for one in batch]
    longest = max(len(row) for row in rows) - 1
    inputs = torch.zeros((len(rows), longest), dtype=torch.long)
    mask = torch.zeros_like(inputs)
    for index, row in enumerate(rows):
        inputs[index, : len(row) - 1] = torch.tensor(row[:-1])
        mask[index, : len(row) - 1] = 1
    first_asked = min(len(one.prompt) for one in batch) - 1
    keep = {"logits_to_keep": longest - first_asked} if accepts_logits_to_keep(model) else {}
    logits = model(input_ids=inputs.to(device), attention_mask=mask.to(device), use_cache=False, **keep).logits
    left_out = longest - logits.shape[1]
    results = []
    for number, one, row in zip(numbers, batch, logits, strict=True):
        begin = len(one.prompt) - 1 - left_out
        asked = row[begin : begin + len(one.continuation)].split(_READ_AT_ONCE)
        targets = torch.tensor(list(one.continuation), device=row.device).split(_READ_AT_ONCE)
        parts = [
            read(number, part.float().log_softmax(dim=-1), target) for part, target in zip(asked, targets, strict=True)
        ]
        results.append(torch.cat(parts).cpu().double().numpy())
    return results
