"""Many rows decoded together, token by token: one prefill, one cache, and each row by its own strategy's rule."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from textgen.evaluation.decoding.gumbel import NoiseKey, gumbel_rows
from textgen.evaluation.decoding.next_token import Group, choose, group_rows
from textgen.evaluation.decoding.strategies import Strategy


@dataclass(frozen=True)
class Row:
    """One continuation to make: of the prompt with this number, by this strategy, with the noise of this key."""

    prompt: int
    strategy: Strategy
    key: NoiseKey


@dataclass(frozen=True)
class Decoded:
    """A continuation: its tokens, the end of text included where there is one, and the seconds that it took."""

    tokens: list[int]
    seconds: float


class Source(Protocol):
    """Where scores of the next token come from: a model's reading, or a contrast of two."""

    logits: torch.Tensor  # [rows, vocabulary]

    def read(self, tokens: torch.Tensor) -> torch.Tensor: ...
    def select(self, which: torch.Tensor) -> None: ...


def decode_rows(
    source: Source, prompts: torch.Tensor, rows: Sequence[Row], *, max_new_tokens: int, eos_token_id: int | None
) -> list[Decoded]:
    """Continuations of all rows, decoded together.

    Args:
        source: has read the prompt of each row, in the order of ``rows``; it is used up.
        prompts: token ids [prompts, length], without padding.
        rows: in which those of one family stand together.
        max_new_tokens: at which every row ends.
        eos_token_id: at which a row ends by itself; None for no such token.

    Rows that have ended are dropped. ``seconds`` shares the time of reading among the rows that were there, equally;
    that of choosing, among the rows of the family that chose. So the tokens of a strategy over their seconds are the
    speed of a batch like this one, had all its rows been that strategy's.
    """
    device = prompts.device
    groups = _grouped(rows, prompts)
    alive = torch.arange(len(rows), device=device)
    ended = torch.zeros(len(rows), dtype=torch.bool, device=device)
    tokens = torch.full((len(rows), max_new_tokens), -1, device=device)
    seconds = torch.zeros(len(rows), dtype=torch.float64)

    for position in range(max_new_tokens):
        chosen = _choose_all(source.logits, groups, position, seconds, alive)
        tokens[alive, position] = torch.where(ended, -1, chosen)
        if eos_token_id is not None:
            ended = ended | (chosen == eos_token_id)
            if position + 1 == max_new_tokens or bool(ended.all()):
                break
            if 8 * int(ended.sum()) > len(ended):  # leaving rows out copies the cache: not for the sake of a few
                left = (~ended).nonzero()[:, 0]
                source.select(left)
                groups, chosen = _without_ended(groups, ended), chosen[left]
                alive, ended = alive[left], ended[left]
        if position + 1 < max_new_tokens:
            started = time.perf_counter()
            source.read(chosen)
            seconds[alive.cpu()] += (time.perf_counter() - started) / len(alive)
    return [
        Decoded([token for token in row if token >= 0], spent)
        for row, spent in zip(tokens.tolist(), seconds.tolist(), strict=True)
    ]


def _grouped(rows: Sequence[Row], prompts: torch.Tensor) -> list[Group]:
    members: dict[str, list[Row]] = {}
    for row in rows:
        members.setdefault(row.strategy.family, []).append(row)
    assert [row for group in members.values() for row in group] == list(rows), "rows of one family stand together"
    return [
        group_rows(
            [row.strategy for row in group],
            [row.key for row in group],
            prompts[torch.tensor([row.prompt for row in group], device=prompts.device)],
        )
        for group in members.values()
    ]


def _choose_all(
    logits: torch.Tensor, groups: Sequence[Group], position: int, seconds: torch.Tensor, alive: torch.Tensor
) -> torch.Tensor:
    """The next token of every row, [rows]; the time it took goes to the rows ``alive`` in ``seconds``."""
    started = time.perf_counter()
    keys = [key for group in groups if group.samples for key in group.keys]
    distinct = list(dict.fromkeys(keys))
    place = {key: number for number, key in enumerate(distinct)}
    drawn = gumbel_rows(distinct, position, logits.shape[1], logits.device) if keys else None
    drawing = (time.perf_counter() - started) / max(1, len(keys))
    chosen, first, owners = [], 0, alive.cpu()
    for group in groups:
        started = time.perf_counter()
        size = len(group.keys)
        noise = None
        if group.samples:
            assert drawn is not None
            noise = drawn[torch.tensor([place[key] for key in group.keys], device=drawn.device)]
        tokens = choose(logits[first : first + size], noise, group)
        group.history = torch.cat([group.history, tokens[:, None]], dim=1)
        chosen.append(tokens)
        spent = (time.perf_counter() - started) / size + (drawing if group.samples else 0.0)
        seconds[owners[first : first + size]] += spent
        first += size
    return torch.cat(chosen)


def _without_ended(groups: Sequence[Group], ended: torch.Tensor) -> list[Group]:
    left, first = [], 0
    for group in groups:
        size = len(group.keys)
        which = (~ended[first : first + size]).nonzero()[:, 0]
        first += size
        if len(which):
            group.select(which)
            left.append(group)
    return left
