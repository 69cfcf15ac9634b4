"""The dry run: what a fine-tuning run would do, printed without writing anything."""

from typing import Any

from accelerate import Accelerator

from textgen.data.corpus import preview_corpus
from textgen.plan.check import Checked
from textgen.plan.evaluation_cost import EvaluationCost, text_tokens
from textgen.run.directory import RunDirectory
from textgen.training.config import DEFAULT_EPOCHS
from textgen.training.distributed.processes import describe_precision, describe_processes


def print_plan(config: Any, checked: Checked, directory: RunDirectory, accelerator: Accelerator) -> None:
    """Print what a run would do, and read enough of the data to know that it can start.

    Args:
        config: the configuration of ``recipes/finetune.py``.
        checked: what the checks of that configuration found.
        directory: the run directory.
        accelerator: this process's Accelerator.

    Raises:
        UserError: the data cannot be tokenized, does not fill a block, or is too little for a validation split.
    """
    training = config.training
    processes = describe_processes(accelerator)
    if training.steps:
        length = _count(training.steps, "step", "steps")
    else:
        length = _count(training.epochs or DEFAULT_EPOCHS, "epoch", "epochs")
    blocks = _count(training.global_batch_size, "block", "blocks")
    if training.microbatch_size == "auto":
        share = f"in the largest microbatches that fit into the memory of {processes}"
    else:
        number = training.global_batch_size // training.microbatch_size
        per_process = f", {number // accelerator.num_processes} on each of" if accelerator.num_processes > 1 else " on"
        share = f"{_count(number, 'microbatch', 'microbatches')}{per_process} {processes}"
    start = "random weights" if config.model.from_scratch else "pretrained weights"
    precision = describe_precision(accelerator, config.engine.precision)
    rows = {
        "model": f"{config.model.model} ({checked.model.architecture}, context {checked.model.context})",
        "method": f"{config.model.method}, from {start}",
        "data": f"{config.data.data}: {preview_corpus(config.data, checked.model.tokenizer, checked.sources)}",
        "training": f"{length}, {training.optimizer}, {training.schedule}, peak learning rate "
        f"{training.learning_rate:g}, {precision}",
        "batches": f"{blocks} of {config.data.block_size} tokens, {share}",
        "evaluation": f"{config.evaluation.convention} perplexity; strategies "
        + ("skipped" if config.evaluation.skip_decoding else config.evaluation.strategies),
        "perplexity": str(_evaluation_cost(config, checked)),
        "run directory": f"{directory.path} ({'to be resumed' if directory.exists() else 'new'})",
    }
    for name, text in rows.items():
        accelerator.print(f"{name:14} {text}")
    accelerator.print("all checks passed; this was a dry run, and nothing was written")


def _evaluation_cost(config: Any, checked: Checked) -> EvaluationCost:
    training = config.training
    train_tokens, available = text_tokens(config.data, checked.sources)
    step_tokens = training.global_batch_size * config.data.block_size
    steps = training.steps
    if steps is None and train_tokens is not None:
        steps = max(1.0, (training.epochs or DEFAULT_EPOCHS) * train_tokens / step_tokens)
    return EvaluationCost(
        config.evaluation.evaluation_tokens,
        config.run.training_evaluation_tokens,
        available=available,
        every=config.run.evaluate_every,
        step_tokens=step_tokens,
        steps=steps,
    )


def _count(number: float, one: str, many: str) -> str:
    """A number with its noun in the singular or plural, such as "1 epoch" or "2 epochs"."""
    return f"{int(number) if number == int(number) else number:,} {one if number == 1 else many}"
