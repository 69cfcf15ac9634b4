"""A paired comparison of decoding strategies: all continue the same prompts, as did the humans who wrote them.

Continuations of one prompt stay together in every bootstrap, since the prompt is what was drawn independently.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from textgen.evaluation.judge import Judge
from textgen.evaluation.prompts import Prompt, text_of
from textgen.evaluation.sampling import NoiseKey, before_end_of_text, decode
from textgen.evaluation.statistics import bootstrap_ratio
from textgen.evaluation.strategies import Strategy
from textgen.evaluation.table import HUMAN, Made, Scoring, decoding_rows
from textgen.model.modes import evaluating

# Two batches from the default 16 prompts: two processes share them, and speed has an interval.
_ROWS_AT_ONCE = 8


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
class _Job:
    """One continuation to make: of the prompt with this number, for the n-th time."""

    number: int
    prompt: Prompt
    sample: int


@dataclass(frozen=True)
class _Result:
    """What came of a batch of jobs: their numbers and continuations, and the seconds of decoding."""

    numbers: list[int]
    continuations: list[Continuation]
    seconds: float


def compare(
    accelerator: Accelerator,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    strategies: Sequence[Strategy],
    *,
    max_new_tokens: int,
    samples: int,
    seed: int,
    interval_width: float = 0.1,
    judge: Judge | None = None,
    progress: Callable[[str], None] | None = None,
) -> tuple[list[dict[str, Any]], list[Continuation]]:
    """One row of metrics a strategy and, last, one for the humans; and every continuation. The same on every process.

    ``model`` is the unwrapped model on ``accelerator.device``; it is left in the mode it was in. Strategies that do not
    sample give one continuation a prompt, the others ``samples``. What a row holds is said by ``decoding_rows``;
    besides that, ``tokens_per_second`` of one process. ``progress`` is told each strategy's name as it begins.
    """
    assert prompts, "nothing to continue"
    assert samples >= 1, samples
    context = getattr(model.config, "max_position_embeddings", None)
    longest = max(len(prompt.token_ids) for prompt in prompts)
    assert context is None or longest + max_new_tokens <= context, (longest, max_new_tokens, context)

    made: list[Made] = []
    speeds: list[dict[str, Any]] = []
    continuations: list[Continuation] = []
    with evaluating(model), torch.no_grad():
        # The first pass of a process is the slowest, and must not count against the strategy that happens to be first.
        model(input_ids=torch.tensor([prompts[0].token_ids], device=accelerator.device), use_cache=False)
        for strategy in [*strategies, None]:
            name = strategy.name if strategy else HUMAN
            if progress:
                progress(name)
            batches = plan_batches(prompts, samples if strategy and strategy.samples else 1)
            mine = [
                (
                    number,
                    _run_batch(model, tokenizer, strategy, batches[number], max_new_tokens, seed, accelerator.device),
                )
                for number in range(accelerator.process_index, len(batches), accelerator.num_processes)
            ]
            results = [result for _, result in sorted(gather_object(mine), key=lambda pair: pair[0])]
            jobs = sorted(
                (job for result in results for job in zip(result.numbers, result.continuations, strict=True)),
                key=lambda job: job[0],
            )
            made.append(_made(strategy, prompts, [continuation for _, continuation in jobs]))
            speeds.append(_speed(results if strategy else [], max_new_tokens, seed))
            continuations.extend(continuation for _, continuation in jobs)
    scoring = Scoring(max_new_tokens, seed, interval_width, judge)
    rows = [row | speed for row, speed in zip(decoding_rows(accelerator, model, made, scoring), speeds, strict=True)]
    return rows, continuations


def plan_batches(prompts: Sequence[Prompt], samples: int) -> list[list[_Job]]:
    """Jobs in batches of prompts of one length, so that there is never padding.

    The plan does not know of processes: they share out its batches, so a batch, and with it the last bit of its result,
    is the same however many they are.
    """
    jobs = [(prompt, sample) for prompt in prompts for sample in range(samples)]
    by_length: dict[int, list[_Job]] = defaultdict(list)
    for number, (prompt, sample) in enumerate(jobs):
        by_length[len(prompt.token_ids)].append(_Job(number, prompt, sample))
    return [
        alike[first : first + _ROWS_AT_ONCE]
        for _, alike in sorted(by_length.items())
        for first in range(0, len(alike), _ROWS_AT_ONCE)
    ]


def _run_batch(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    strategy: Strategy | None,
    jobs: Sequence[_Job],
    max_new_tokens: int,
    seed: int,
    device: torch.device,
) -> _Result:
    """Continuations of a batch, decoded by the strategy, or the references where there is none."""
    started = time.perf_counter()
    if strategy is None:
        decoded = [list(job.prompt.reference_ids[:max_new_tokens]) for job in jobs]
    else:
        prompts = torch.tensor([job.prompt.token_ids for job in jobs], device=device)
        keys = [NoiseKey(seed, job.prompt.id, job.sample) for job in jobs]
        decoded = decode(
            model, strategy, prompts, keys, max_new_tokens=max_new_tokens, eos_token_id=tokenizer.eos_token_id
        ).tolist()
    seconds = time.perf_counter() - started
    ids = [before_end_of_text(tokens, tokenizer.eos_token_id) for tokens in decoded]
    continuations = [
        Continuation(
            prompt_id=job.prompt.id,
            prompt=job.prompt.text,
            strategy=strategy.name if strategy else HUMAN,
            sample=job.sample,
            text=text_of(tokenizer, tokens, skip_special_tokens=True),
            token_ids=tokens,
        )
        for job, tokens in zip(jobs, ids, strict=True)
    ]
    return _Result([job.number for job in jobs], continuations, seconds)


def _made(strategy: Strategy | None, prompts: Sequence[Prompt], found: Sequence[Continuation]) -> Made:
    by_id = {prompt.id: prompt for prompt in prompts}
    of = [by_id[continuation.prompt_id] for continuation in found]
    return Made(strategy, of, [one.text for one in found], [one.token_ids for one in found])


def _speed(results: Sequence[_Result], max_new_tokens: int, seed: int) -> dict[str, Any]:
    """Generated tokens, the end of text included, over seconds; with an interval over batches, None if there is one."""
    if not results:
        return {"tokens_per_second": None, "tokens_per_second_interval": None}
    tokens = [
        sum(min(len(continuation.token_ids) + 1, max_new_tokens) for continuation in result.continuations)
        for result in results
    ]
    seconds = [result.seconds for result in results]
    interval = list(bootstrap_ratio(tokens, seconds, seed=seed)) if len(results) > 1 else None
    return {"tokens_per_second": sum(tokens) / sum(seconds), "tokens_per_second_interval": interval}
