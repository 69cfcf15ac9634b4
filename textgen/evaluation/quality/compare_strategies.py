"""Compare decoding strategies with each other and with the human text, on the same prompts.

Every bootstrap resamples prompts and keeps all continuations of a prompt together, since only prompts were drawn
independently.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch

from textgen.evaluation.config import EvaluationConfig
from textgen.evaluation.decoding.generate import Continuation, StrategyOutput, generate_continuations, human_output
from textgen.evaluation.decoding.prompts import Prompt
from textgen.evaluation.decoding.strategies import Strategy
from textgen.evaluation.loaded_model import LoadedModel
from textgen.evaluation.quality.decoding_rows import decoding_rows, measure_outputs
from textgen.evaluation.quality.human_differences import baseline_of
from textgen.evaluation.quality.recommendation import recommend
from textgen.evaluation.uncertainty.bootstrap import as_json, bootstrap_ratio
from textgen.model.contexts import evaluating


def compare_strategies(
    loaded: LoadedModel,
    prompts: Sequence[Prompt],
    strategies: Sequence[Strategy],
    config: EvaluationConfig,
    *,
    seed: int,
    amateur: Any = None,
    judge: LoadedModel | None = None,
    echo: Callable[[str], None] | None = None,
) -> tuple[list[dict[str, Any]], list[Continuation], dict[str, Any]]:
    """The rows of ``decoding.json``, one per strategy and a last one for the human text; every continuation; and the
    recommended strategy (see ``recommendation.py``).

    The same on every process. The columns are those of
    :func:`textgen.evaluation.quality.decoding_rows.decoding_rows`, and ``tokens_per_second``: the decoding speed of one
    process. For a strategy that was decoded in one batch with others, it is the speed of such a batch if all of its
    rows were this strategy's.

    Args:
        loaded: the model.
        prompts: the prompts to continue.
        strategies: the strategies to compare; stochastic ones write ``config.samples`` continuations of each prompt,
            the others one.
        config: the length limit, the number of samples and the target interval width.
        seed: random seed of sampling and of the bootstrap.
        amateur: the weaker model, for strategies that need one.
        judge: a second model that scores the continuations.
        echo: prints a line of progress.
    """
    assert prompts, "nothing to continue"
    assert config.samples >= 1, config.samples
    longest = max(len(prompt.token_ids) for prompt in prompts)
    assert longest + config.max_new_tokens <= loaded.context, (longest, config.max_new_tokens, loaded.context)

    with evaluating(loaded.model), evaluating(amateur) if amateur is not None else nullcontext(), torch.no_grad():
        outputs = generate_continuations(
            loaded,
            prompts,
            strategies,
            max_new_tokens=config.max_new_tokens,
            samples_per_prompt=config.samples,
            seed=seed,
            amateur=amateur,
            echo=echo,
        )
    outputs.append(human_output(loaded, prompts, config.max_new_tokens))
    estimates = measure_outputs(loaded, outputs, config, seed=seed, judge=judge)
    rows = decoding_rows(loaded, outputs, estimates, config, seed=seed, judge=judge)
    rows = [row | _speed(output, seed) for row, output in zip(rows, outputs, strict=True)]
    baseline = baseline_of([strategy.name for strategy in strategies])
    ids = [prompt.id for prompt in prompts]
    recommendation = recommend(strategies, estimates, ids, baseline=baseline, seed=seed)
    return rows, [one for output in outputs for one in output.continuations], recommendation


def _speed(output: StrategyOutput, seed: int) -> dict[str, Any]:
    """Generated tokens per second, end-of-text tokens included; with an interval over batches if there are several."""
    tokens, seconds = output.batch_tokens, output.batch_seconds
    if not seconds:
        return {"tokens_per_second": None, "tokens_per_second_interval": None}
    return {
        "tokens_per_second": sum(tokens) / sum(seconds),
        "tokens_per_second_interval": as_json(bootstrap_ratio(tokens, seconds, seed=seed)),
    }
