"""A paired comparison of decoding strategies: all continue the same prompts, as did the humans who wrote them.

Continuations of one prompt stay together in every bootstrap, since the prompt is what was drawn independently.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from textgen.evaluation.decoding.generate import Continuation, Made, continue_prompts, human_continuations
from textgen.evaluation.decoding.prompts import Prompt
from textgen.evaluation.decoding.strategies import Strategy
from textgen.evaluation.quality.decoding_rows import HUMAN, Scoring, Written, decoding_rows
from textgen.evaluation.quality.judge import Judge
from textgen.evaluation.uncertainty.bootstrap import bootstrap_ratio
from textgen.model.contexts import evaluating


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
    amateur: PreTrainedModel | None = None,
    judge: Judge | None = None,
    progress: Callable[[str], None] | None = None,
) -> tuple[list[dict[str, Any]], list[Continuation]]:
    """One row of metrics a strategy and, last, one for the humans; and every continuation. The same on every process.

    ``model`` is the unwrapped model on ``accelerator.device``; it is left in the mode it was in, as is the ``amateur``
    that some strategies take. Strategies that do not sample give one continuation a prompt, the others ``samples``.
    What a row holds is said by ``decoding_rows``; besides that, ``tokens_per_second`` of one process, which of a
    strategy that was decoded together with others is that of such a batch, had all its rows been the strategy's.
    ``progress`` is told how far it is.
    """
    assert prompts, "nothing to continue"
    assert samples >= 1, samples
    context = getattr(model.config, "max_position_embeddings", None)
    longest = max(len(prompt.token_ids) for prompt in prompts)
    assert context is None or longest + max_new_tokens <= context, (longest, max_new_tokens, context)

    with evaluating(model), evaluating(amateur) if amateur is not None else nullcontext(), torch.no_grad():
        made = continue_prompts(
            accelerator, model, tokenizer, prompts, strategies,
            max_new_tokens=max_new_tokens, samples=samples, seed=seed, amateur=amateur, progress=progress,
        )  # fmt: skip
        made[HUMAN] = Made(human_continuations(tokenizer, prompts, HUMAN, max_new_tokens), [], [])
    written, continuations = [], []
    by_id = {prompt.id: prompt for prompt in prompts}
    for strategy in [*strategies, None]:
        found = made[strategy.name if strategy else HUMAN].continuations
        of = [by_id[one.prompt_id] for one in found]
        written.append(Written(strategy, of, [one.text for one in found], [one.token_ids for one in found]))
        continuations.extend(found)
    scoring = Scoring(max_new_tokens, seed, interval_width, judge)
    rows = decoding_rows(accelerator, model, written, scoring)
    rows = [row | _speed(made[row["strategy"]], seed) for row in rows]
    return rows, continuations


def _speed(made: Made, seed: int) -> dict[str, Any]:
    """Generated tokens, the end of text included, over seconds; with an interval over batches, None if there is one."""
    if not made.seconds:
        return {"tokens_per_second": None, "tokens_per_second_interval": None}
    several = len(made.seconds) > 1
    return {
        "tokens_per_second": sum(made.tokens) / sum(made.seconds),
        "tokens_per_second_interval": list(bootstrap_ratio(made.tokens, made.seconds, seed=seed)) if several else None,
    }
