"""Continuing prompts by many strategies, shared out over processes; the same result however many there are."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from textgen.evaluation.decoding.dispatch import NoiseKey, Row, before_end_of_text, decode_together
from textgen.evaluation.decoding.prompts import Prompt, text_of
from textgen.evaluation.decoding.strategies import Strategy

# Two batches from the default 16 prompts: two processes share them, and speed has an interval.
_PROMPTS_AT_ONCE = 8


@dataclass(frozen=True)
class Continuation:
    """What a strategy, or a human, made of a prompt; ``text`` and ``token_ids`` stop before the first end of text."""

    prompt_id: str
    prompt: str
    strategy: str
    sample: int
    text: str
    token_ids: tuple[int, ...]


@dataclass(frozen=True)
class Made:
    """Continuations by one strategy of all prompts, in their order, samples of a prompt in a row.

    Attributes:
        continuations: one an entry.
        tokens: generated tokens of each batch of prompts, ends of text included.
        seconds: that each batch took; see ``token_loop.decode_rows`` for what that means where strategies are decoded
            together.
    """

    continuations: list[Continuation]
    tokens: list[int]
    seconds: list[float]


def continue_prompts(
    accelerator: Accelerator,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    strategies: Sequence[Strategy],
    *,
    max_new_tokens: int,
    samples: int,
    seed: int,
    amateur: PreTrainedModel | None = None,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Made]:
    """What each strategy makes of the prompts, by its name; the same on every process.

    The model is in evaluation mode on ``accelerator.device``, as is the ``amateur``. Strategies that do not sample give
    one continuation a prompt, the others ``samples``. ``progress`` is told how far it is.
    """
    batches = plan_batches(prompts)
    # The first pass of a process is the slowest, and must not count against the strategies of the first batch.
    with torch.no_grad():
        model(input_ids=torch.tensor([prompts[0].token_ids], device=accelerator.device), use_cache=False)
    names = ", ".join(strategy.name for strategy in strategies)
    mine: list[tuple[int, dict[str, tuple[list[tuple[Any, ...]], int, float]]]] = []
    for number in range(accelerator.process_index, len(batches), accelerator.num_processes):
        if progress and strategies:
            part = f" (batch {number + 1} of {len(batches)})" if len(batches) > 2 else ""
            if part or number == 0:
                progress(f"{len(prompts)} prompts, continued by: {names}{part}")
        batch = [prompts[place] for place in batches[number]]
        rows = [
            Row(place, strategy, NoiseKey(seed, prompt.id, sample))
            for strategy in strategies
            for place, prompt in enumerate(batch)
            for sample in range(samples if strategy.samples else 1)
        ]
        mine.append((number, _run_batch(model, tokenizer, batch, rows, max_new_tokens, accelerator.device, amateur)))
    results = [result for _, result in sorted(gather_object(mine), key=lambda pair: pair[0])]
    made = {}
    for strategy in strategies:
        parts = [result[strategy.name] for result in results]
        placed = {
            (batches[number][place], sample): Continuation(
                prompts[batches[number][place]].id,
                prompts[batches[number][place]].text,
                strategy.name,
                sample,
                text,
                ids,
            )
            for number, (rows, _, _) in enumerate(parts)
            for place, sample, text, ids in rows
        }
        made[strategy.name] = Made(
            [placed[key] for key in sorted(placed)], [part[1] for part in parts], [part[2] for part in parts]
        )
    return made


def plan_batches(prompts: Sequence[Prompt]) -> list[list[int]]:
    """Numbers of prompts in batches of one length, so that there is never padding.

    The plan does not know of processes: they share out its batches, so a batch, and with it the last bit of its result,
    is the same however many they are.
    """
    by_length: dict[int, list[int]] = defaultdict(list)
    for number, prompt in enumerate(prompts):
        by_length[len(prompt.token_ids)].append(number)
    return [
        alike[first : first + _PROMPTS_AT_ONCE]
        for _, alike in sorted(by_length.items())
        for first in range(0, len(alike), _PROMPTS_AT_ONCE)
    ]


def _run_batch(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    batch: Sequence[Prompt],
    rows: Sequence[Row],
    max_new_tokens: int,
    device: torch.device,
    amateur: PreTrainedModel | None,
) -> dict[str, tuple[list[tuple[Any, ...]], int, float]]:
    """By strategy: (number in the batch, sample, text, token ids) of every continuation; generated tokens; seconds."""
    if not rows:
        return {}
    eos = tokenizer.eos_token_id
    decoded = decode_together(
        model,
        torch.tensor([prompt.token_ids for prompt in batch], device=device),
        rows,
        max_new_tokens=max_new_tokens,
        eos_token_id=eos,
        amateur=amateur,
    )
    found: dict[str, tuple[list[tuple[Any, ...]], int, float]] = {}
    for row, one in zip(rows, decoded, strict=True):
        texts, tokens, seconds = found.get(row.strategy.name, ([], 0, 0.0))
        ids = before_end_of_text(one.tokens, eos)
        texts.append((row.prompt, row.key.sample, text_of(tokenizer, ids, skip_special_tokens=True), ids))
        found[row.strategy.name] = texts, tokens + len(one.tokens), seconds + one.seconds
    return found


def human_continuations(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Prompt], name: str, max_new_tokens: int
) -> list[Continuation]:
    """What really followed the prompts, as continuations by a strategy of this name."""
    ids = [before_end_of_text(prompt.reference_ids[:max_new_tokens], tokenizer.eos_token_id) for prompt in prompts]
    return [
        Continuation(prompt.id, prompt.text, name, 0, text_of(tokenizer, tokens, skip_special_tokens=True), tokens)
        for prompt, tokens in zip(prompts, ids, strict=True)
    ]
