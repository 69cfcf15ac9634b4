"""What all recipes check before anything expensive starts, and what they found while doing so."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from textgen.data.config import DataConfig
from textgen.errors import UserError
from textgen.evaluation.config import EvaluationConfig
from textgen.evaluation.decoding.strategy_parser import parse_strategies
from textgen.model.config import ModelConfig
from textgen.run.directory import RunDirectory
from textgen.training.config import DEFAULT_EPOCHS


@dataclass(frozen=True)
class Plan:
    """A model that can be loaded, and the sizes it came with.

    Attributes:
        location: where the weights are.
        tokenizer: the model's own.
        context: tokens that the model can see.
        architecture: its class, such as GPT2LMHeadModel.
    """

    location: Any
    tokenizer: Any
    context: int
    architecture: str

    def refuse_adapter(self) -> None:
        """Raise if the model is an adapter: fine-tuning starts from a whole model."""
        if self.location.adapter:
            raise UserError(
                f"--model {self.location.adapter}: this is an adapter; fine-tuning starts from a whole model. "
                f"Start from its base ({self.location.base}), or merge the two with peft's merge_and_unload."
            )


def check_settings(evaluation: EvaluationConfig, *problems: Sequence[str]) -> None:
    """Raise one error that lists every setting that cannot be, each with its remedy."""
    found = [problem for room in problems for problem in room] + evaluation.problems()
    if not evaluation.skip_decoding:
        try:
            parse_strategies(evaluation.strategies, amateur=evaluation.amateur is not None)
        except UserError as error:
            found += [problem.removeprefix("- ") for problem in str(error).splitlines()]
    if found:
        raise UserError.of(found)


def check_inputs(data: DataConfig, models: Mapping[str, ModelConfig]) -> None:
    """Raise one error for data files and model directories that are not there or cannot be read.

    Args:
        data: whose sources are looked up and read through once.
        models: by the flag that names them, such as ``{"--model": config.model}``.
    """
    from textgen.data.sources import find_sources
    from textgen.model.locate import locate

    checks: list[Callable[[], object]] = [partial(find_sources, data.data, data)]
    if data.validation_data:
        checks.append(partial(find_sources, data.validation_data, data, setting="--validation-data"))
    checks += [partial(locate, model.model, model.revision, setting=setting) for setting, model in models.items()]
    found = []
    for check in checks:
        try:
            check()
        except UserError as error:
            found.append(str(error).removeprefix("- "))
    if found:
        raise UserError.of(found)


def plan_model(
    model: ModelConfig,
    evaluation: EvaluationConfig,
    *,
    block_size: int | None,
    samples: bool = False,
    setting: str = "--model",
) -> Plan:
    """Find the model, read its tokenizer and configuration, and check that everything fits its context.

    ``samples`` says that prompts are continued even where the comparison of strategies is skipped.

    Raises:
        UserError: any of these fails; no weights have been loaded.
    """
    from textgen.model.locate import check_fits, context_length, load_tokenizer, locate, model_config

    location = locate(model.model, model.revision, setting=setting)
    architecture = model_config(location, model, setting=setting)
    context = context_length(architecture)
    problems = check_fits(
        context,
        block_size=block_size,
        prompt_tokens=evaluation.prompt_tokens,
        max_new_tokens=evaluation.max_new_tokens,
        decode=samples or not evaluation.skip_decoding,
    )
    if evaluation.stride is not None and evaluation.stride > context:
        problems.append(f"--stride {evaluation.stride}: over the model's context; give {context} or less.")
    if problems:
        raise UserError.of(problems)
    names = getattr(architecture, "architectures", None) or [type(architecture).__name__]
    return Plan(location, load_tokenizer(location, model, setting=setting), context, names[0])


def judge_config(model: ModelConfig, evaluation: EvaluationConfig) -> dict[str, ModelConfig]:
    """The judge's settings under the flag that names it; empty without one."""
    if evaluation.judge is None:
        return {}
    return {"--judge": replace(model, model=evaluation.judge, revision=None, from_scratch=False)}


def plan_judge(model: ModelConfig, evaluation: EvaluationConfig) -> Plan | None:
    """Find the judge and read its tokenizer and configuration; None without one. Raises UserError if that fails."""
    # What it is asked about is cut to its context, so nothing has to fit.
    undemanding = replace(evaluation, skip_decoding=True, stride=None)
    plans = [
        plan_model(config, undemanding, block_size=None, setting=setting)
        for setting, config in judge_config(model, evaluation).items()
    ]
    return plans[0] if plans else None


def load_judge(plan: Plan | None, model: ModelConfig, evaluation: EvaluationConfig, device: Any) -> Any:
    """The judge with its weights, a :class:`textgen.evaluation.quality.judge.Judge`; None without one."""
    if plan is None:
        return None
    from textgen.evaluation.quality.judge import Judge
    from textgen.model.loading import load_model

    (config,) = judge_config(model, evaluation).values()
    loaded = load_model(plan.location, config, setting="--judge").to(device)
    return Judge(config.model, loaded, plan.tokenizer, plan.context)


def amateur_config(model: ModelConfig, evaluation: EvaluationConfig) -> ModelConfig | None:
    """The amateur as a model to load, or None if no strategy will take it."""
    if evaluation.amateur is None or evaluation.skip_decoding:
        return None
    return replace(model, model=evaluation.amateur, revision=None, from_scratch=False)


def plan_amateur(amateur: ModelConfig | None, evaluation: EvaluationConfig, plan: Plan) -> Plan | None:
    """The plan of the amateur, if there is one.

    Raises:
        UserError: it does not fit, or its tokens are not those of the model that ``plan`` is about.
    """
    if amateur is None:
        return None
    own = plan_model(amateur, replace(evaluation, stride=None), block_size=None, setting="--amateur")
    if own.tokenizer.get_vocab() != plan.tokenizer.get_vocab():
        raise UserError(
            f"--amateur {amateur.model}: its tokens are others than the model's ({len(own.tokenizer)} and "
            f"{len(plan.tokenizer)}), so the two cannot be held against each other. Name a model with the same "
            "tokenizer, such as a smaller one of its family."
        )
    return own


def say_plan(
    say: Callable[[str], None], config: Any, plan: Plan, directory: RunDirectory, processes: int, precision: str
) -> None:
    """Print what a run would do, after everything was checked that needs no weights; nothing is written.

    Enough of the data is read to know that it can be tokenised, fills a block and has a held-out side.
    """
    from textgen.data.corpus import peek

    training = config.training
    length = f"{training.steps} steps" if training.steps else f"{training.epochs or DEFAULT_EPOCHS:g} epoch(s)"
    if training.microbatch_size == "auto":
        share = f"in microbatches as large as fit into the memory of {processes} process(es)"
    else:
        microbatches = training.global_batch_size // training.microbatch_size
        share = f"{microbatches} microbatches, {microbatches // processes} on each of {processes} process(es)"
    start = "random weights" if config.model.from_scratch else "its weights"
    rows = {
        "model": f"{config.model.model} ({plan.architecture}, context {plan.context})",
        "method": f"{config.model.method} from {start}",
        "data": f"{config.data.data}: {peek(config.data, plan.tokenizer)}",
        "training": f"{length}, {training.optimizer}, {training.schedule} to {training.learning_rate:g}, {precision}",
        "batches": f"{training.global_batch_size} blocks of {config.data.block_size} tokens, {share}",
        "evaluation": f"{config.evaluation.convention} perplexity; strategies "
        + ("skipped" if config.evaluation.skip_decoding else config.evaluation.strategies),
        "run directory": f"{directory.path} ({'goes on there' if directory.exists() else 'new'})",
    }
    for name, text in rows.items():
        say(f"{name:14} {text}")
    say("everything checks out; this was a dry run, and nothing was written")
