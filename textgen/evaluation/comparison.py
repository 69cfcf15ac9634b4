"""A paired comparison of decoding strategies: all continue the same prompts, as did the humans who wrote them.

Continuations of one prompt stay together in every bootstrap, since the prompt is what was drawn independently.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch.nn import functional as F
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from textgen.evaluation.continuing import Continuation, Made, continue_prompts, human_continuations
from textgen.evaluation.metrics import measure
from textgen.evaluation.prompts import Prompt
from textgen.evaluation.reading import accepts_logits_to_keep
from textgen.evaluation.statistics import bootstrap_mean, bootstrap_ratio
from textgen.evaluation.strategies import Strategy
from textgen.model.modes import evaluating

HUMAN = "human"

_ROWS_AT_ONCE = 8  # scored in one batch
_SCORED_AT_ONCE = 1024  # positions whose logits are held at a time: 0.2 GB for GPT-2's vocabulary in float32


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
    amateur: PreTrainedModel | None = None,
    progress: Callable[[str], None] | None = None,
) -> tuple[list[dict[str, Any]], list[Continuation]]:
    """One row of metrics a strategy and, last, one for the humans; and every continuation. The same on every process.

    ``model`` is the unwrapped model on ``accelerator.device``; it is left in the mode it was in, as is the ``amateur``
    that some strategies take. Strategies that do not sample give one continuation a prompt, the others ``samples``.
    ``nll`` is in nats a token, under the model itself at temperature 1; ``tokens_per_second`` is that of one process,
    and of a strategy that was decoded together with others that of such a batch, had all its rows been the strategy's.
    ``progress`` is told how far it is.
    """
    assert prompts, "nothing to continue"
    assert samples >= 1, samples
    context = getattr(model.config, "max_position_embeddings", None)
    longest = max(len(prompt.token_ids) for prompt in prompts)
    assert context is None or longest + max_new_tokens <= context, (longest, max_new_tokens, context)

    rows: list[dict[str, Any]] = []
    continuations: list[Continuation] = []
    with evaluating(model), evaluating(amateur) if amateur is not None else nullcontext(), torch.no_grad():
        made = continue_prompts(
            accelerator, model, tokenizer, prompts, strategies,
            max_new_tokens=max_new_tokens, samples=samples, seed=seed, amateur=amateur, progress=progress,
        )  # fmt: skip
        made[HUMAN] = Made(human_continuations(tokenizer, prompts, HUMAN, max_new_tokens), [], [])
        nlls = score_continuations(
            accelerator, model, prompts, [one for name in made for one in made[name].continuations]
        )
    first = 0
    for strategy in [*strategies, None]:
        one = made[strategy.name if strategy else HUMAN]
        own = nlls[first : first + len(one.continuations)]
        first += len(own)
        rows.append(
            {
                "strategy": strategy.name if strategy else HUMAN,
                "family": strategy.family if strategy else HUMAN,
                "settings": dict(strategy.settings) if strategy else {},
            }
            | _figures(one.continuations, own, max_new_tokens, seed)
            | _speed(one, seed)
            | {"continuations": len(one.continuations)}
        )
        continuations.extend(one.continuations)
    return rows, continuations


def score_continuations(
    accelerator: Accelerator, model: PreTrainedModel, prompts: Sequence[Prompt], continuations: Sequence[Continuation]
) -> list[float]:
    """The :func:`continuation_nlls` of all continuations, in batches that the processes share out."""
    by_id = {prompt.id: prompt.token_ids for prompt in prompts}
    order = sorted(range(len(continuations)), key=lambda number: len(by_id[continuations[number].prompt_id]))
    batches: list[list[int]] = []
    for number in order:  # of prompts of one length
        length = len(by_id[continuations[number].prompt_id])
        if (
            batches
            and len(batches[-1]) < _ROWS_AT_ONCE
            and length == len(by_id[continuations[batches[-1][0]].prompt_id])
        ):
            batches[-1].append(number)
        else:
            batches.append([number])
    mine: list[tuple[int, float]] = []
    for batch in batches[accelerator.process_index :: accelerator.num_processes]:
        chosen = [continuations[number] for number in batch]
        scores = continuation_nlls(
            model, [by_id[one.prompt_id] for one in chosen], [one.token_ids for one in chosen], accelerator.device
        )
        mine += zip(batch, scores, strict=True)
    found = dict(gather_object(mine))
    return [found[number] for number in range(len(continuations))]


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


def _speed(made: Made, seed: int) -> dict[str, Any]:
    """Generated tokens, the end of text included, over seconds; with an interval over batches, None if there is one."""
    if not made.seconds:
        return {"tokens_per_second": None, "tokens_per_second_interval": None}
    several = len(made.seconds) > 1
    return {
        "tokens_per_second": sum(made.tokens) / sum(made.seconds),
        "tokens_per_second_interval": list(bootstrap_ratio(made.tokens, made.seconds, seed=seed)) if several else None,
    }
