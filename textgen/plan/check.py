"""Everything that a recipe checks before anything expensive starts; all problems are reported together."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from textgen.config import flag
from textgen.data.cache import check_cache
from textgen.data.config import DataConfig
from textgen.data.overlap.validation_overlap import check_sources
from textgen.data.sources import DataSources, find_data
from textgen.data.tokenization import added_before
from textgen.errors import UserError, collect_problems
from textgen.evaluation.config import EvaluationConfig
from textgen.evaluation.perplexity.convention import convention_problems
from textgen.launch_environment import check_launch_variables, is_main_process, world_size
from textgen.model.config import AdapterConfig, ModelConfig
from textgen.model.locate import FoundModel, find_model, locate
from textgen.model.quantized_checkpoint import training_problems
from textgen.plan.check_examples import (
    convention_conflicts,
    describe_targets,
    prompt_problems,
    target_problems,
    template_problems,
)
from textgen.plan.disk_space import DiskNeeds, check_disk_space, disk_needs
from textgen.plan.extend import check_length, check_steps_left, other_lengths
from textgen.plan.inputs import run_inputs
from textgen.plan.resume import check_restorable, check_resume
from textgen.plan.sample_data import sample_data
from textgen.run.changes import Files
from textgen.run.directory import RunDirectory
from textgen.run.launcher import check_launcher
from textgen.run.peers import silent_seconds

if TYPE_CHECKING:  # imports torch
    from textgen.model.adapters.targets import AdapterTargets


@dataclass(frozen=True)
class Checked:
    """What the checks found, so that nothing is looked for twice.

    Attributes:
        sources: where the data is.
        models: the models to train or measure, by the moment that results are stored under; the main one is "model".
        judge: the model of ``--judge``, if given.
        amateur: the model of ``--amateur``, if given.
        targets: the weights that will get an adapter, with --method lora and qlora.
        inputs: the files of data, tokenizer and model (:mod:`textgen.run.changes`).
    """

    sources: DataSources
    models: Mapping[str, FoundModel]
    judge: FoundModel | None
    amateur: FoundModel | None
    targets: "AdapterTargets | None" = None
    inputs: Mapping[str, Files] = field(default_factory=dict)

    @property
    def model(self) -> FoundModel:
        """The model of ``--model``."""
        return self.models["model"]

    def disk_needs(self, config: Any) -> DiskNeeds | None:
        """What a fine-tuning run writes; None if only the model's own code knows how large it is."""
        if not self.model.parameters:
            return None
        return disk_needs(config, self.model.parameters, len(self.targets.adapted) if self.targets else 0)


def check_finetuning(config: Any, directory: RunDirectory) -> Checked:
    """Check the settings and inputs of a fine-tuning run, without loading weights or writing anything.

    Args:
        config: the configuration of ``recipes/finetune.py``.
        directory: the run directory.

    Raises:
        UserError: something is wrong; every problem that was found is in the message.
    """
    check_launch_variables()
    silent_seconds()
    checked = _check(
        config,
        directory,
        {"model": config.model},
        [
            *config.model.problems(),
            *config.adapters.problems(config.model.method),
            *config.data.problems(),
            *config.training.problems(world_size()),
            *config.engine.problems(config.training, world_size()),
            *config.run.problems(),
            *config.tracking.problems(),
            *config.evaluation.problems(),
        ],
        block_size=None if config.data.block_size == "auto" else config.data.block_size,
        training=True,
        samples_during_training=config.run.sample_every > 0,
    )
    problems: list[str] = []
    with collect_problems(problems):
        check_sources(config.data, checked.sources)
    inputs, notes = run_inputs(checked.sources, checked.model), []
    with collect_problems(problems):
        notes = check_resume(config.run.resume, directory, checked.sources.fingerprint, inputs)
        check_length(config.training, directory, config.training.steps)
        check_steps_left(config.run.resume, config.training, directory, config.training.steps)
        check_restorable(directory)
    if checked.model.location.adapter:
        problems.append(
            f"--model {checked.model.location.adapter}: this is an adapter, but fine-tuning starts from a full model. "
            f"Start from its base ({checked.model.location.base}), or merge them with peft's merge_and_unload."
        )
    if problems:
        raise UserError.of(problems)
    checked = replace(checked, targets=check_method(checked.model, config.adapters), inputs=inputs)
    needs = checked.disk_needs(config)
    if needs and not directory.is_complete():
        check_disk_space(config, directory.path, needs)
    if is_main_process() and not directory.is_complete():
        for note in (*notes, *other_lengths(directory)):
            print(note, flush=True)
    return checked


def check_method(found: FoundModel, adapters: AdapterConfig) -> "AdapterTargets | None":
    """Check that a model can be trained with its ``--method``; returns the weights that will get an adapter.

    Raises:
        UserError: its weights are quantized and must stay as they are, or ``--lora-targets`` do not exist.
    """
    if found.quantized and (problems := training_problems(found.quantized, found.config, adapters, found.setting)):
        raise UserError.of(problems)
    if found.config.method == "full":
        return None
    from textgen.model.build import preview_targets  # imports torch

    return preview_targets(found, adapters)


def check_evaluation(config: Any, directory: RunDirectory) -> Checked:
    """Check the settings and inputs of an evaluation; as :func:`check_finetuning`, for ``recipes/evaluate.py``."""
    check_launch_variables()
    silent_seconds()
    models = {"model": config.model}
    if config.output.baseline:  # measured first, as "before" is
        models = {"baseline": replace(config.model, model=config.output.baseline, revision=None, from_scratch=False)}
        models |= {"model": config.model}
    problems = [
        *config.model.problems(),
        *config.adapters.problems(config.model.method),
        *config.data.problems(),
        *config.output.problems(),
        *config.tracking.problems(),
        *config.evaluation.problems(),
    ]
    return _check(config, directory, models, problems)


def _check(
    config: Any,
    directory: RunDirectory,
    models: Mapping[str, ModelConfig],
    problems: Sequence[str],
    *,
    block_size: int | None = None,
    training: bool = False,
    samples_during_training: bool = False,
) -> Checked:
    check_launcher()
    if problems:
        raise UserError.of(problems)
    second = config.evaluation.second_models(config.model)
    named = {flag(moment): model for moment, model in models.items()} | second
    sources = find_inputs(config.data, named)
    directory.check()

    # Reading a model's configuration and tokenizer imports transformers, which takes a second.
    by_setting: dict[str, FoundModel] = {}
    wrong: list[str] = []
    for setting, model in named.items():
        with collect_problems(wrong):
            by_setting[setting] = find_model(model, setting=setting)
    samples = None
    with collect_problems(wrong):
        samples = sample_data(config.data, sources, training=training)
    if wrong or samples is None:
        raise UserError.of(wrong)
    found = {moment: by_setting[flag(moment)] for moment in models}
    amateur = by_setting.get("--amateur")
    decodes = samples_during_training or not config.evaluation.skip_decoding
    wrong = convention_conflicts(config.data, config.evaluation, samples)
    unwritten = template_problems(samples, found) or target_problems(samples, found)
    if not unwritten and decodes:
        unwritten = prompt_problems(config.data, config.evaluation, samples, found)
    wrong += unwritten
    for moment, one in found.items():
        name = "the model's context" if moment == "model" else f"the context of {flag(moment)} {one.config.model}"
        with collect_problems(wrong):
            check_lengths(
                one.context,
                config.evaluation,
                block_size=block_size,
                samples_during_training=samples_during_training,
                special_tokens=len(added_before(one.tokenizer)),
                name=name,
            )
        with collect_problems(wrong):
            if amateur:
                check_same_tokenizer(amateur, one)
    if amateur:
        name = f"the context of --amateur {amateur.config.model}"
        with collect_problems(wrong):
            check_lengths(amateur.context, replace(config.evaluation, stride=None), name=name)
    if wrong:
        raise UserError.of(wrong)
    shown = [] if directory.is_complete() else describe_targets(config.data, samples, found["model"].tokenizer)
    template = config.model.chat_template
    if template and not any(sample.has_chats for sample in samples.every()):
        shown += [f"--chat-template {template}: the data has no chats, so it is only saved with the model"]
    if is_main_process():
        for note in (*sources.notes, *shown):  # such as files that are passed over
            print(note, flush=True)
    return Checked(sources, found, by_setting.get("--judge"), amateur)


def find_inputs(data: DataConfig, models: Mapping[str, ModelConfig]) -> DataSources:
    """Find the data and every model directory, and check that data can be cached.

    Args:
        data: names the data.
        models: by the flag that names them, such as ``{"--model": config.model}``.

    Raises:
        UserError: one message for everything that is missing or unreadable.
    """
    searches: list[Callable[[], Any]] = [partial(find_data, data)]
    searches += [partial(locate, model.model, model.revision, setting=setting) for setting, model in models.items()]
    found: list[Any] = []
    problems: list[str] = []
    for search in searches:
        with collect_problems(problems):
            found.append(search())
    with collect_problems(problems):
        check_cache()
    if problems:
        raise UserError.of(list(dict.fromkeys(problems)))
    sources: DataSources = found[0]
    return sources


def check_lengths(
    context: int,
    evaluation: EvaluationConfig,
    *,
    block_size: int | None = None,
    samples_during_training: bool = False,
    special_tokens: int = 0,
    name: str = "the model's context",
) -> None:
    """Check that everything fits into a model's context.

    Args:
        context: number of tokens that the model can see.
        evaluation: lengths of prompts and continuations, and the stride.
        block_size: tokens in a training block.
        samples_during_training: prompts are continued, even if the comparison of strategies is skipped.
        special_tokens: number of tokens that the tokenizer puts before a prompt.
        name: what messages call the context.

    Raises:
        UserError: something is too long.
    """
    problems = []
    if block_size is not None and block_size > context:
        problems.append(f"--block-size {block_size}: {name} is {context} tokens. Use {context} or less.")
    decodes = samples_during_training or not evaluation.skip_decoding
    if decodes and evaluation.prompt_tokens + evaluation.max_new_tokens + special_tokens > context:
        and_special = f" and {special_tokens} for the tokenizer's own" if special_tokens else ""
        problems.append(
            f"--prompt-tokens {evaluation.prompt_tokens} with --max-new-tokens {evaluation.max_new_tokens}: the sum"
            f"{and_special} exceeds {name}, {context} tokens. Lower one of them, or use --skip-decoding."
        )
    problems += convention_problems(evaluation.convention, evaluation.stride, context, name=name)
    if problems:
        raise UserError.of(problems)


def check_same_tokenizer(amateur: FoundModel, model: FoundModel) -> None:
    """Check that the amateur's vocabulary is the model's.

    Raises:
        UserError: it is not, so that their probabilities cannot be compared.
    """
    if amateur.tokenizer.get_vocab() != model.tokenizer.get_vocab():
        raise UserError(
            f"--amateur {amateur.config.model}: its vocabulary differs from the model's ({len(amateur.tokenizer)} and "
            f"{len(model.tokenizer)} tokens). Use a model with the same tokenizer, such as a smaller one of its family."
        )
