"""The token-by-token loop: many rows decoded together from one prefix cache, each by its own strategy's rule."""

import time
from collections.abc import Sequence
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
        strategy: how to decode.
        key: of the row's noise.
    """

    prompt: int
    strategy: Strategy
    key: NoiseKey


@dataclass(frozen=True)
class Decoded:
    """A continuation's tokens, end of text included if it ended; and the seconds that it took."""

    tokens: list[int]
    seconds: float


class LogitsSource(Protocol):
    """Where scores of the next token come from: a prefix cache, or a contrast of two."""

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

    Rows that have ended are dropped. ``seconds``: the time of a forward pass is divided equally among the rows that
    took part; the time of choosing, among the rows of the family that chose. So a strategy's tokens divided by their
    seconds are the speed of a batch like this one, had all its rows been that strategy's.

    Args:
        source: has read the prompt of each request, in their order; it is consumed.
        prompts: token ids [prompts, length], without padding.
        requests: with those of one family next to each other.
        max_new_tokens: where every row ends.
        eos_token_id: where a row ends earlier; None for no such token.
    """
    device = prompts.device
    groups = _grouped(requests, prompts)
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
            if 8 * int(ended.sum()) > len(ended):  # dropping rows copies the cache, which a few of them are not worth
                left = (~ended).nonzero()[:, 0]
                source.select_rows(left)
                groups, chosen = _without_ended(groups, ended), chosen[left]
                alive, ended = alive[left], ended[left]
        if position + 1 < max_new_tokens:
            started = time.perf_counter()
            source.append(chosen)
            seconds[alive.cpu()] += (time.perf_counter() - started) / len(alive)
    return [
        Decoded([token for token in row if token >= 0], spent)
        for row, spent in zip(tokens.tolist(), seconds.tolist(), strict=True)
    ]


def _grouped(requests: Sequence[Request], prompts: torch.Tensor) -> list[RowGroup]:
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
    """The next token of every row, [rows]; the time it took is added to ``seconds`` of the rows ``alive``."""
    started = time.perf_counter()
    keys = [key for group in groups if group.is_stochastic for key in group.keys]
    distinct = list(dict.fromkeys(keys))
    place = {key: number for number, key in enumerate(distinct)}
    drawn = gumbel_rows(distinct, position, logits.shape[1], logits.device) if keys else None
    drawing = (time.perf_counter() - started) / max(1, len(keys))
    chosen, first, owners = [], 0, alive.cpu()
    for group in groups:
        started = time.perf_counter()
        size = len(group.keys)
        noise = None
        if group.is_stochastic:
            assert drawn is not None
            noise = drawn[torch.tensor([place[key] for key in group.keys], device=drawn.device)]
        tokens = choose_next(logits[first : first + size], noise, group)
        group.history = torch.cat([group.history, tokens[:, None]], dim=1)
        chosen.append(tokens)
        spent = (time.perf_counter() - started) / size + (drawing if group.is_stochastic else 0.0)
        seconds[owners[first : first + size]] += spent
        first += size
    return torch.cat(chosen)


def _without_ended(groups: Sequence[RowGroup], ended: torch.Tensor) -> list[RowGroup]:
    left, first = [], 0
    for group in groups:
        size = len(group.keys)
        which = (~ended[first : first + size]).nonzero()[:, 0]
        first += size
        if len(which):
            group.select_rows(which)
            left.append(group)
    return left
