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
from torch.nn import functional as F
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from textgen.evaluation.contrastive import accepts_logits_to_keep
from textgen.evaluation.metrics import measure
from textgen.evaluation.prompts import Prompt, text_of
from textgen.evaluation.sampling import NoiseKey, before_end_of_text, decode
from textgen.evaluation.statistics import bootstrap_mean, bootstrap_ratio
from textgen.evaluation.strategies import Strategy
from textgen.model.modes import evaluating

HUMAN = "human"

# Two batches from the default 16 prompts: two processes share them, and speed has an interval.
_ROWS_AT_ONCE = 8
_SCORED_AT_ONCE = 1024  # positions whose logits are held at a time: 0.2 GB for GPT-2's vocabulary in float32


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
    """What came of a batch of jobs: their numbers, continuations and nll in nats, and the seconds of decoding."""

    numbers: list[int]
    continuations: list[Continuation]
    nlls: list[float]
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
    progress: Callable[[str], None] | None = None,
) -> tuple[list[dict[str, Any]], list[Continuation]]:
    """One row of metrics a strategy and, last, one for the humans; and every continuation. The same on every process.

    ``model`` is the unwrapped model on ``accelerator.device``; it is left in the mode it was in. Strategies that do not
    sample give one continuation a prompt, the others ``samples``. ``nll`` is in nats a token, under the model itself at
    temperature 1; ``tokens_per_second`` is that of one process. ``progress`` is told each strategy's name as it begins.
    """
    assert prompts, "nothing to continue"
    assert samples >= 1, samples
    context = getattr(model.config, "max_position_embeddings", None)
    longest = max(len(prompt.token_ids) for prompt in prompts)
    assert context is None or longest + max_new_tokens <= context, (longest, max_new_tokens, context)

    rows: list[dict[str, Any]] = []
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
            found = sorted(
                (
                    job
                    for result in results
                    for job in zip(result.numbers, result.continuations, result.nlls, strict=True)
                ),
                key=lambda job: job[0],
            )
            made, nlls = [job[1] for job in found], [job[2] for job in found]
            rows.append(
                {"strategy": name, "settings": dict(strategy.settings) if strategy else {}}
                | _figures(made, nlls, max_new_tokens, seed)
                | _speed(results if strategy else [], max_new_tokens, seed)
                | {"continuations": len(made)}
            )
            continuations.extend(made)
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
    """Continuations of a batch, decoded by the strategy, or the references where there is none; and their nll."""
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
    nlls = continuation_nlls(model, [job.prompt.token_ids for job in jobs], ids, device)
    return _Result([job.number for job in jobs], continuations, nlls, seconds)


def continuation_nlls(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    continuations: Sequence[Sequence[int]],
    device: torch.device,
) -> list[float]:
    """Negative log-likelihood in nats of each continuation after its prompt, summed over tokens; 0 for an empty one.

    The prompts must be of one length. Under the model itself at temperature 1, whatever the strategy.
    """
    prompt_length, longest = len(prompts[0]), max(len(tokens) for tokens in continuations)
    if longest == 0:
        return [0.0] * len(continuations)
    inputs = torch.zeros((len(prompts), prompt_length + longest), dtype=torch.long)
    labels = torch.full((len(prompts), longest), -100)  # what cross_entropy ignores
    mask = torch.zeros_like(inputs)
    for row, (prompt, tokens) in enumerate(zip(prompts, continuations, strict=True)):
        length = prompt_length + len(tokens)
        inputs[row, :length] = torch.tensor([*prompt, *tokens])
        labels[row, : len(tokens)] = torch.tensor(tokens)
        mask[row, :length] = 1
    keep = {"logits_to_keep": longest} if accepts_logits_to_keep(model) else {}
    nlls: list[float] = []
    rows = max(1, _SCORED_AT_ONCE // longest)
    with torch.no_grad():
        for part in (slice(first, first + rows) for first in range(0, len(prompts), rows)):
            # The last token is no input: nothing is asked about what comes after it.
            ids, attention_mask = inputs[part, :-1].to(device), mask[part, :-1].to(device)
            logits = model(input_ids=ids, attention_mask=attention_mask, use_cache=False, **keep).logits[:, -longest:]
            nll = F.cross_entropy(logits.float().transpose(1, 2), labels[part].to(device), reduction="none")
            nlls.extend(nll.cpu().double().sum(dim=1).tolist())
    return nlls


def _figures(made: Sequence[Continuation], nlls: Sequence[float], max_new_tokens: int, seed: int) -> dict[str, Any]:
    """The metrics of a strategy's continuations, each with its interval over prompts."""
    lengths = [len(continuation.token_ids) for continuation in made]
    prompt_ids = [continuation.prompt_id for continuation in made]
    numbers = {prompt_id: number for number, prompt_id in enumerate(dict.fromkeys(prompt_ids))}
    clusters = [numbers[prompt_id] for prompt_id in prompt_ids]
    ended = [float(length < max_new_tokens) for length in lengths]  # nothing but the end of the text makes one shorter
    tokens = sum(lengths)
    return measure([continuation.text for continuation in made], lengths, seed, prompts=prompt_ids) | {
        "nll": sum(nlls) / tokens if tokens else 0.0,
        "nll_interval": list(bootstrap_ratio(nlls, lengths, seed=seed, clusters=clusters)),
        "end_of_text_rate": sum(ended) / len(ended),
        "end_of_text_rate_interval": list(bootstrap_mean(ended, seed=seed, clusters=clusters)),
    }


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
