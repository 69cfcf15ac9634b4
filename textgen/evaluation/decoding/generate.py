"""Continuations of all prompts by all strategies, divided over processes; the same on any number of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from accelerate.utils import gather_object

from textgen.data.tokenization import decode_text
from textgen.evaluation.batching import same_length_batches, share_batches, share_progress
from textgen.evaluation.decoding.dispatch import before_end_of_text, decode_batch
from textgen.evaluation.decoding.gumbel import NoiseKey
from textgen.evaluation.decoding.prefix.cache_support import report_limits
from textgen.evaluation.decoding.prompts import Prompt
from textgen.evaluation.decoding.strategies import HUMAN, Strategy
from textgen.evaluation.decoding.token_loop import Request
from textgen.evaluation.loaded_model import LoadedModel
from textgen.printable import counted

# With the default 16 prompts there are two batches, so that two processes can share them and speed has an interval.
_PROMPTS_PER_BATCH = 8


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
    """All continuations by one strategy, or by the human authors (``HUMAN``).

    Attributes:
        strategy: the strategy, or ``HUMAN``.
        prompts: the prompt of each continuation, in the given order of prompts; samples of a prompt are adjacent.
        continuations: one per entry of ``prompts``.
        batch_tokens: number of generated tokens of each batch of prompts, including ends of text.
        batch_seconds: time of each batch; see :func:`textgen.evaluation.decoding.token_loop.decode_rows` for its
            meaning if strategies are decoded together.
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
        return [continuation.text for continuation in self.continuations]

    @cached_property
    def token_counts(self) -> list[int]:
        """The length of each continuation in tokens."""
        return [len(continuation.token_ids) for continuation in self.continuations]

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
        prompts: the prompts to continue.
        strategies: the strategies to continue them with.
        max_new_tokens: maximum length of a continuation.
        samples_per_prompt: number of continuations of each prompt by a stochastic strategy; the others produce one.
        seed: random seed.
        amateur: the weaker model, in evaluation mode on the same device, for strategies that need one.
        echo: prints progress.
    """
    batches = prompt_batches(prompts)
    # The first forward pass of a process is the slowest, and must not count against the first batch's strategies.
    with torch.no_grad():
        loaded.model(input_ids=torch.tensor([prompts[0].token_ids], device=loaded.device), use_cache=False)
    say = echo or (lambda line: None)
    report_limits(loaded.model, loaded.name, strategies, say)
    report_limits(amateur, "the amateur", [strategy for strategy in strategies if strategy.needs_amateur], say)
    if echo and strategies:
        names = ", ".join(strategy.name for strategy in strategies)
        echo(f"generating continuations of {counted(len(prompts), 'prompt')} by {names}")
    samples = {strategy.name: samples_per_prompt if strategy.is_stochastic else 1 for strategy in strategies}
    share = dict(share_batches(loaded.accelerator, batches))
    mine: list[tuple[int, dict[str, _BatchOutput]]] = []
    sizes = [len(batch) * sum(samples.values()) for batch in batches]
    with share_progress("decoding", sizes, share, unit="continuations") as advance:
        for number, batch in share.items():
            requests = [
                Request(place, strategy, NoiseKey(seed, prompts[index].id, sample))
                for strategy in strategies
                for place, index in enumerate(batch)
                for sample in range(samples[strategy.name])
            ]
            batch_prompts = [prompts[index] for index in batch]
            mine.append((number, _run_batch(loaded, batch_prompts, requests, max_new_tokens, amateur, advance)))
    results = [result for _, result in sorted(gather_object(mine), key=lambda pair: pair[0])]
    return [
        _merge_batches(strategy, prompts, batches, [result[strategy.name] for result in results])
        for strategy in strategies
    ]


def prompt_batches(prompts: Sequence[Prompt]) -> list[list[int]]:
    """Indices of prompts, in batches of one length, so that there is no padding."""
    return same_length_batches([len(prompt.token_ids) for prompt in prompts], _PROMPTS_PER_BATCH)


@dataclass
class _BatchOutput:
    """Output of one strategy for one batch: continuations, number of generated tokens, seconds."""

    continuations: list[Continuation]
    tokens: int = 0
    seconds: float = 0.0


def _run_batch(
    loaded: LoadedModel,
    batch: Sequence[Prompt],
    requests: Sequence[Request],
    max_new_tokens: int,
    amateur: Any,
    advance: Callable[[float], None],
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
        advance=advance,
    )
    outputs: dict[str, _BatchOutput] = {}
    for request, result in zip(requests, decoded, strict=True):
        output = outputs.setdefault(request.strategy.name, _BatchOutput([]))
        prompt, ids = batch[request.prompt], before_end_of_text(result.tokens, loaded.eos_token_id)
        output.continuations.append(_continuation(loaded, prompt, request.strategy, request.key.sample, ids))
        output.tokens += len(result.tokens)
        output.seconds += result.seconds
    return outputs


def _merge_batches(
    strategy: Strategy,
    prompts: Sequence[Prompt],
    batches: Sequence[Sequence[int]],
    outputs: Sequence[_BatchOutput],
) -> StrategyOutput:
    """The strategy's outputs for all batches as one, in the order of the prompts."""
    found: list[tuple[int, Continuation]] = []
    for batch, output in zip(batches, outputs, strict=True):
        samples = len(output.continuations) // len(batch)
        owners = [index for index in batch for _ in range(samples)]
        found += zip(owners, output.continuations, strict=True)
    found.sort(key=lambda pair: pair[0])  # stable, so samples stay in order
    return StrategyOutput(
        strategy,
        [prompts[index] for index, _ in found],
        [continuation for _, continuation in found],
        [output.tokens for output in outputs],
        [output.seconds for output in outputs],
    )


def human_output(loaded: LoadedModel, prompts: Sequence[Prompt], max_new_tokens: int) -> StrategyOutput:
    """The text that actually followed the prompts, as the output of the strategy ``HUMAN``."""
    ids = [before_end_of_text(prompt.reference_ids[:max_new_tokens], loaded.eos_token_id) for prompt in prompts]
    references = [_continuation(loaded, prompt, HUMAN, 0, tokens) for prompt, tokens in zip(prompts, ids, strict=True)]
    return StrategyOutput(HUMAN, prompts, references)


def _continuation(
    loaded: LoadedModel, prompt: Prompt, strategy: Strategy, sample: int, ids: tuple[int, ...]
) -> Continuation:
    text = decode_text(loaded.tokenizer, ids, skip_special_tokens=True)
    return Continuation(prompt.id, prompt.text, strategy.name, sample, text, ids)
