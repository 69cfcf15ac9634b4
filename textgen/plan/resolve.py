"""Settings that are ``auto``: their numbers, once the model and the data are known."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from textgen.data.block_size import LONGEST, auto_block_size, block_size_for_examples
from textgen.data.corpus import Corpus
from textgen.data.mixed_corpus import MixedCorpus
from textgen.errors import UserError
from textgen.model.build import TrainableModel
from textgen.model.locate import FoundModel
from textgen.plan.audit import describe_examples
from textgen.plan.extend import check_length, check_steps_left
from textgen.run.directory import RunDirectory
from textgen.training.auto import auto_learning_rate, auto_warmup_steps

Echo = Callable[[str], None]


def resolve_blocks(
    config: Any, directory: RunDirectory, trainable: TrainableModel, corpus: Corpus | MixedCorpus, echo: Echo
) -> Any:
    """The configuration with values for ``--block-size`` and ``--packing``, which the run directory records.

    Of examples of a task, it also prints how many are left out, and how many are longer than a block.

    Args:
        config: the configuration of ``recipes/finetune.py``.
        directory: the run directory.
        trainable: the model to train, before it is wrapped.
        corpus: the data.
        echo: called with lines to print.

    Raises:
        UserError: no prompt leaves room for a target in its block, or the run in the directory has other values.
    """
    found: dict[str, Any] = {}
    if config.data.block_size == "auto":
        context, batch = trainable.found.context, config.training.global_batch_size
        if corpus.counts.examples:
            found["block_size"] = block_size_for_examples(corpus.length_counts(LONGEST), context)
        else:
            found["block_size"] = auto_block_size(context, tokens=corpus.token_count, global_batch_size=batch)
        echo(f"--block-size auto: {found['block_size']}")
    if config.data.packing == "auto":
        found["packing"] = "none" if corpus.counts.examples else "joined"
        if corpus.counts.examples:
            echo("--packing auto: none, so that examples are whole and do not see each other")
    directory.resolve(found)
    config = replace(config, data=replace(config.data, **found))
    for line in describe_examples(corpus, config.data.block_size, config.data.packing):
        echo(line)
    return config


def resolve_schedule(config: Any, directory: RunDirectory, model: FoundModel, total_steps: int, echo: Echo) -> Any:
    """The configuration with numbers for ``--learning-rate`` and ``--warmup-steps``, which the run directory records.

    Args:
        config: the configuration of ``recipes/finetune.py``.
        directory: the run directory.
        model: the model that is trained.
        total_steps: number of steps of the whole run.
        echo: called with a line for each setting that was ``auto``.

    Raises:
        UserError: the run in the directory has another learning rate or warm-up, or cannot go on to so many steps.
    """
    check_length(config.training, directory, total_steps)
    check_steps_left(config.run.resume, config.training, directory, total_steps)
    found: dict[str, Any] = {}
    if config.training.learning_rate == "auto":
        found["learning_rate"] = model_learning_rate(config, model)
        echo(f"--learning-rate auto: {found['learning_rate']:g}")
    if config.training.warmup_steps == "auto":
        found["warmup_steps"] = auto_warmup_steps(total_steps)
        echo(f"--warmup-steps auto: {found['warmup_steps']}")
    directory.resolve(found)
    return replace(config, training=replace(config.training, **found))


def model_learning_rate(config: Any, model: FoundModel) -> float:
    """What ``--learning-rate auto`` is for a model; no weights are read.

    Raises:
        UserError: only the model's own code knows how many parameters it has.
    """
    if not model.parameters:
        raise UserError(
            f"--learning-rate auto: how many parameters {config.model.model} has is not known before its code runs. "
            "Give a number, such as 1e-4."
        )
    return auto_learning_rate(model.parameters, method=config.model.method, from_scratch=config.model.from_scratch)
