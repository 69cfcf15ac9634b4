"""Continuations of all prompts by all strategies, shared out over processes; the same on any number of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from accelerate.utils import gather_object

from textgen.data.tokenization import decode_text
from textgen.evaluation.decoding.dispatch import before_end_of_text, decode_batch
from textgen.evaluation.decoding.gumbel import NoiseKey
from textgen.evaluation.decoding.prompts import Prompt
from textgen.evaluation.decoding.strategies import HUMAN, Strategy
from textgen.evaluation.decoding.token_loop import Request
from textgen.evaluation.loaded_model import LoadedModel
from textgen.evaluation.sharing import same_length_batches

# Two batches from the default 16 prompts: two processes share them, and speed has an interval.
_MAX_PROMPTS = 8


@dataclass(frozen=True)
class Continuation:
    """A continuation of a prompt by a strategy, or by the human author: a row of ``continuations.jsonl``.

    ``text`` and ``token_ids`` stop before the first end of text.
    """

    prompt_id: str
    prompt: str
    strategy: str
    sample: int
    text: str
    token_ids: tuple[int, ...]


@dataclass(frozen=True)
class StrategyOutput:
    """Everything that one strategy, or the human authors (``HUMAN``), wrote.

    Attributes:
        strategy: which one.
        prompts: the prompt of each continuation, in the order of the prompts, samples of a prompt next to each other.
        continuations: one per entry of ``prompts``.
        batch_tokens: number of generated tokens of each batch of prompts, ends of text included.
        batch_seconds: time that each batch took; see :func:`textgen.evaluation.decoding.token_loop.decode_rows` for
            what that means if strategies are decoded together.
    """

    strategy: Strategy
    prompts: Sequence[Prompt]
    continuations: Sequence[Continuation]
    batch_tokens: Sequence[int] = ()
    batch_seconds: Sequence[float] = ()

    @property
    def name(self) -> str:
        """The strategy's name."""
        return self.strategy.name

    @cached_property
    def texts(self) -> list[str]:
        """The text of each continuation."""
        return [one.text for one in self.continuations]

    @cached_property
    def token_counts(self) -> list[int]:
        """The length of each continuation in tokens."""
        return [len(one.token_ids) for one in self.continuations]

    @cached_property
    def prompt_ids(self) -> list[str]:
        """The id of each continuation's prompt."""
        return [prompt.id for prompt in self.prompts]


def generate_continuations(
    loaded: LoadedModel,
    prompts: Sequence[Prompt],
    strategies: Sequence[Strategy],
    *,
    max_new_tokens: int,
    samples_per_prompt: int,
    seed: int,
    amateur: Any = None,
    echo: Callable[[str], None] | None = None,
) -> list[StrategyOutput]:
    """The output of each strategy, in their order; the same on every process.

    Args:
        loaded: the model, in evaluation mode.
        prompts: what to continue.
        strategies: how.
        max_new_tokens: where every continuation ends.
        samples_per_prompt: continuations of each prompt by stochastic strategies; the others give one.
        seed: of the noise.
        amateur: the weaker model, in evaluation mode on the same device, for strategies that need one.
        echo: prints a line of progress.
    """
    batches = plan_batches(prompts)
    # The first forward pass of a process is the slowest, and must not count against the first batch's strategies.
    with torch.no_grad():
        loaded.model(input_ids=torch.tensor([prompts[0].token_ids], device=loaded.device), use_cache=False)
    names = ", ".join(strategy.name for strategy in strategies)
    mine: list[tuple[int, dict[str, _BatchOutput]]] = []
    for number in range(loaded.accelerator.process_index, len(batches), loaded.accelerator.num_processes):
        if echo and strategies:
            part = f" (batch {number + 1} of {len(batches)})" if len(batches) > 2 else ""
            if part or number == 0:
                echo(f"generating continuations of {len(prompts)} prompts by {names}{part}")
        requests = [
            Request(place, strategy, NoiseKey(seed, prompts[index].id, sample))
            for strategy in strategies
            for place, index in enumerate(batches[number])
            for sample in range(samples_per_prompt if strategy.is_stochastic else 1)
        ]
        batch = [prompts[index] for index in batches[number]]
        mine.append((number, _run_batch(loaded, batch, requests, max_new_tokens, amateur)))
    results = [result for _, result in sorted(gather_object(mine), key=lambda pair: pair[0])]
    place = {prompts[index].id: index for batch in batches for index in batch}
    outputs = []
    for strategy in strategies:
        parts = [result[strategy.name] for result in results]
        found = sorted(
            (one for part in parts for one in part.continuations), key=lambda c: (place[c.prompt_id], c.sample)
        )
        outputs.append(
            StrategyOutput(
                strategy,
                [prompts[place[one.prompt_id]] for one in found],
                found,
                [part.tokens for part in parts],
                [part.seconds for part in parts],
            )
        )
    return outputs


def plan_batches(prompts: Sequence[Prompt]) -> list[list[int]]:
    """Indices of prompts, in batches of one length, so that there is no padding."""
    return same_length_batches([len(prompt.token_ids) for prompt in prompts], _MAX_PROMPTS)


@dataclass
class _BatchOutput:
    """What one strategy wrote for one batch of prompts: continuations, generated tokens, seconds."""

    continuations: list[Continuation]
    tokens: int = 0
    seconds: float = 0.0


def _run_batch(
    loaded: LoadedModel, batch: Sequence[Prompt], requests: Sequence[Request], max_new_tokens: int, amateur: Any
) -> dict[str, _BatchOutput]:
    """The output of each strategy for one batch of prompts, by its name."""
    if not requests:
        return {}
    decoded = decode_batch(
        loaded.model,
        torch.tensor([prompt.token_ids for prompt in batch], device=loaded.device),
        requests,
        max_new_tokens=max_new_tokens,
        eos_token_id=loaded.eos_token_id,
        amateur=amateur,
    )
    found: dict[str, _BatchOutput] = {}
    for request, one in zip(requests, decoded, strict=True):
        output = found.setdefault(request.strategy.name, _BatchOutput([]))
        prompt, ids = batch[request.prompt], before_end_of_text(one.tokens, loaded.eos_token_id)
        output.continuations.append(_continuation(loaded, prompt, request.strategy, request.key.sample, ids))
        output.tokens += len(one.tokens)
        output.seconds += one.seconds
    return found


def human_output(loaded: LoadedModel, prompts: Sequence[Prompt], max_new_tokens: int) -> StrategyOutput:
    """What really followed the prompts, as the output of the strategy ``HUMAN``."""
    ids = [before_end_of_text(prompt.reference_ids[:max_new_tokens], loaded.eos_token_id) for prompt in prompts]
    written = [_continuation(loaded, prompt, HUMAN, 0, tokens) for prompt, tokens in zip(prompts, ids, strict=True)]
    return StrategyOutput(HUMAN, prompts, written)


def _continuation(
    loaded: LoadedModel, prompt: Prompt, strategy: Strategy, sample: int, ids: tuple[int, ...]
) -> Continuation:
    text = decode_text(loaded.tokenizer, ids, skip_special_tokens=True)
    return Continuation(prompt.id, prompt.text, strategy.name, sample, text, ids)
