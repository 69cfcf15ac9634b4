"""The token-by-token loop: decodes many rows together from one prefix cache, each with its own strategy's rule."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from textgen.evaluation.decoding.gumbel import NoiseKey, gumbel_rows
from textgen.evaluation.decoding.next_token import RowGroup, choose_next, group_rows
from textgen.evaluation.decoding.strategies import Strategy


@dataclass(frozen=True)
class Request:
    """One continuation to generate.

    Attributes:
        prompt: index of the prompt in the batch.
        strategy: the strategy to decode with.
        key: noise key of the continuation.
    """

    prompt: int
    strategy: Strategy
    key: NoiseKey


@dataclass(frozen=True)
class Decoded:
    """The tokens of a continuation, including the end of text if it was reached, and the seconds they took."""

    tokens: list[int]
    seconds: float


class LogitsSource(Protocol):
    """Where the scores of the next token come from: a prefix cache, or a contrast of two."""

    logits: torch.Tensor  # [rows, vocabulary]

    def append(self, tokens: torch.Tensor) -> torch.Tensor: ...
    def select_rows(self, which: torch.Tensor) -> None: ...


def decode_rows(
    source: LogitsSource,
    prompts: torch.Tensor,
    requests: Sequence[Request],
    *,
    max_new_tokens: int,
    eos_token_id: int | None,
) -> list[Decoded]:
    """A continuation for every request, decoded together.

    Rows that have ended are dropped. ``seconds``: the time of a forward pass is divided equally among the rows in it,
    and the time of choosing tokens among the rows of the family that chose. So a strategy's tokens divided by their
    seconds are its speed in a batch of this size, as if all rows were the strategy's.

    Args:
        source: a source whose rows have read the prompts of the requests, in order; it is consumed.
        prompts: token ids [prompts, length], without padding.
        requests: the continuations to generate, with those of one family next to each other.
        max_new_tokens: maximum length of a continuation.
        eos_token_id: the token that ends a continuation early; None for no such token.
    """
    device = prompts.device
    groups = _group_by_family(requests, prompts)
    alive = torch.arange(len(requests), device=device)
    ended = torch.zeros(len(requests), dtype=torch.bool, device=device)
    tokens = torch.full((len(requests), max_new_tokens), -1, device=device)
    seconds = torch.zeros(len(requests), dtype=torch.float64)

    for position in range(max_new_tokens):
        chosen = _choose_all(source.logits, groups, position, seconds, alive)
        tokens[alive, position] = torch.where(ended, -1, chosen)
        if eos_token_id is not None:
            ended = ended | (chosen == eos_token_id)
            if position + 1 == max_new_tokens or bool(ended.all()):
                break
            if 8 * int(ended.sum()) > len(ended):  # dropping rows copies the cache, too costly for only a few of them
                remaining = (~ended).nonzero()[:, 0]
                source.select_rows(remaining)
                groups, chosen = _drop_ended(groups, ended), chosen[remaining]
                alive, ended = alive[remaining], ended[remaining]
        if position + 1 < max_new_tokens:
            started = time.perf_counter()
            source.append(chosen)
            seconds[alive.cpu()] += (time.perf_counter() - started) / len(alive)
    return [
        Decoded([token for token in row if token >= 0], row_seconds)
        for row, row_seconds in zip(tokens.tolist(), seconds.tolist(), strict=True)
    ]


def _group_by_family(requests: Sequence[Request], prompts: torch.Tensor) -> list[RowGroup]:
    members: dict[str, list[Request]] = {}
    for request in requests:
        members.setdefault(request.strategy.family, []).append(request)
    in_order = [request for group in members.values() for request in group]
    assert in_order == list(requests), "requests of one family must be next to each other"
    return [
        group_rows(
            [request.strategy for request in group],
            [request.key for request in group],
            prompts[torch.tensor([request.prompt for request in group], device=prompts.device)],
        )
        for group in members.values()
    ]


def _choose_all(
    logits: torch.Tensor, groups: Sequence[RowGroup], position: int, seconds: torch.Tensor, alive: torch.Tensor
) -> torch.Tensor:
    """The next token of every row, [rows]; adds the time taken to ``seconds`` of the rows ``alive``."""
    started = time.perf_counter()
    stochastic = [group for group in groups if group.is_stochastic]
    keys = [key for group in stochastic for key in group.keys]
    noise: Iterator[torch.Tensor] = iter(())
    if keys:
        rows_of_noise = gumbel_rows(keys, position, logits.shape[1], logits.device)
        noise = iter(rows_of_noise.split([len(group.keys) for group in stochastic]))
    noise_seconds = (time.perf_counter() - started) / max(1, len(keys))
    sizes, chosen = [len(group.keys) for group in groups], []
    for group, group_logits, rows in zip(groups, logits.split(sizes), alive.cpu().split(sizes), strict=True):
        started = time.perf_counter()
        tokens = choose_next(group_logits, next(noise) if group.is_stochastic else None, group)
        group.history = torch.cat([group.history, tokens[:, None]], dim=1)
        chosen.append(tokens)
        choosing_seconds = (time.perf_counter() - started) / len(rows)
        seconds[rows] += choosing_seconds + (noise_seconds if group.is_stochastic else 0.0)
    return torch.cat(chosen)


def _drop_ended(groups: Sequence[RowGroup], ended: torch.Tensor) -> list[RowGroup]:
    remaining = []
    for group, group_ended in zip(groups, ended.split([len(group.keys) for group in groups]), strict=True):
        which = (~group_ended).nonzero()[:, 0]
        if len(which):
            group.select_rows(which)
            remaining.append(group)
    return remaining
