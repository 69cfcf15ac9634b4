"""Settings that are ``auto``: their numbers, once the model and the data are known."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from textgen.data.block_size import auto_block_size
from textgen.model.locate import FoundModel
from textgen.model.packing import check_isolation, isolates_documents
from textgen.run.directory import RunDirectory
from textgen.training.auto import auto_learning_rate, auto_warmup_steps

Echo = Callable[[str], None]


def resolve_block_size(config: Any, directory: RunDirectory, echo: Echo, *, context: int, tokens: int) -> Any:
    """The configuration with a number for ``--block-size``, which the run directory records.

    Args:
        config: the configuration of ``recipes/finetune.py``.
        directory: the run directory.
        echo: called with a line that says what ``auto`` was resolved to.
        context: maximum number of tokens that the model reads at once.
        tokens: number of training tokens.

    Raises:
        UserError: the run in the directory has another block size.
    """
    if config.data.block_size != "auto":
        return config
    size = auto_block_size(context, tokens=tokens, global_batch_size=config.training.global_batch_size)
    echo(f"--block-size auto: {size}")
    directory.resolve({"block_size": size})
    return replace(config, data=replace(config.data, block_size=size))


def resolve_packing(config: Any, directory: RunDirectory, echo: Echo, *, model: Any, examples: bool) -> Any:
    """The configuration with a value for ``--packing``, which the run directory records.

    Args:
        config: the configuration of ``recipes/finetune.py``.
        directory: the run directory.
        echo: called with a line that says what ``auto`` was resolved to.
        model: the model to train, before it is wrapped.
        examples: the data has examples of a task, which must not see each other.

    Raises:
        UserError: the model cannot isolate documents as ``--packing isolated`` asks, or the run in the directory has
            another packing.
    """
    packing = config.data.packing
    if packing == "isolated":
        check_isolation(model, config.model.model)
    if packing != "auto":
        return config
    if not examples:
        packing = "joined"
    else:
        packing = "isolated" if isolates_documents(model) else "none"
        echo(f"--packing auto: {packing}, so that examples do not see each other")
    directory.resolve({"packing": packing})
    return replace(config, data=replace(config.data, packing=packing))


def resolve_schedule(config: Any, directory: RunDirectory, echo: Echo, *, model: FoundModel, total_steps: int) -> Any:
    """The configuration with numbers for ``--learning-rate`` and ``--warmup-steps``, which the run directory records.

    Args:
        config: the configuration of ``recipes/finetune.py``.
        directory: the run directory.
        echo: called with a line for each setting that was ``auto``.
        model: the model that is trained.
        total_steps: number of steps of the whole run.

    Raises:
        UserError: the run in the directory has another learning rate or warm-up.
    """
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
    """What ``--learning-rate auto`` is for a model; no weights are read."""
    return auto_learning_rate(model.parameters, method=config.model.method, from_scratch=config.model.from_scratch)
