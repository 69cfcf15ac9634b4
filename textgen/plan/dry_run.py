"""The dry run: what a run would do, printed without writing anything; models on this machine are loaded and probed."""

from typing import Any

from accelerate import Accelerator

from textgen.data.block_size import LONGEST, auto_block_size
from textgen.data.corpus import load_held_out, preview_corpus
from textgen.disk import free_bytes, in_words
from textgen.evaluation.draw_documents import draw_documents
from textgen.plan.check import Checked
from textgen.plan.evaluation_cost import EvaluationCost, retained_tokens, text_tokens
from textgen.plan.probe_models import probe_in_dry_run
from textgen.plan.resolve import model_learning_rate
from textgen.printable import counted
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
        UserError: the data cannot be tokenized, does not fill a block, or is too little for a validation split; or a
            model cannot be loaded, or is not a causal language model.
    """
    training = config.training
    processes = describe_processes(accelerator)
    epochs = counted(training.epochs or DEFAULT_EPOCHS, "epoch")
    length = counted(training.steps, "step") if training.steps else epochs
    blocks = counted(training.global_batch_size, "block")
    if training.microbatch_size == "auto":
        share = f"in the largest microbatches that fit into the memory of {processes}"
    else:
        number = training.global_batch_size // training.microbatch_size
        per_process = f", {number // accelerator.num_processes} on each of" if accelerator.num_processes > 1 else " on"
        share = f"{counted(number, 'microbatch', 'microbatches')}{per_process} {processes}"
    start = "random weights" if config.model.from_scratch else "pretrained weights"
    precision = describe_precision(accelerator, config.engine.precision)
    rows = {
        "model": f"{config.model.model} ({checked.model.architecture}, context {checked.model.context})",
        "method": f"{config.model.method}, from {start}",
    }
    if checked.targets:
        rows["adapters"] = str(checked.targets).removeprefix("adapters ")
    train_tokens, held_out_tokens = text_tokens(config.data, checked.sources)
    block_size = _likely_block_size(config, checked, train_tokens)
    estimate = ""
    if config.data.block_size == "auto":
        estimate = " (auto; an estimate)" if train_tokens else " (auto; at most, since the size of the data is unknown)"
    rows |= {
        "data": f"{config.data.data}: {preview_corpus(config.data, checked.model.tokenizer, checked.sources)}",
        "training": f"{length}, {training.optimizer}, {training.schedule}, peak learning rate "
        f"{_learning_rate(config, checked)}, {precision}",
        "batches": f"{blocks} of {block_size} tokens{estimate}, {share}",
        "evaluation": f"{config.evaluation.convention} perplexity; strategies "
        + ("skipped" if config.evaluation.skip_decoding else config.evaluation.strategies),
        "perplexity": str(_evaluation_cost(config, checked, block_size, train_tokens, held_out_tokens)),
        "run directory": f"{directory.path} ({directory.describe()})",
    }
    if needs := checked.disk_needs(config):
        rows["disk"] = f"about {in_words(needs.total)} ({needs}); {in_words(free_bytes(directory.path))} is free"
    for name, text in rows.items():
        accelerator.print(f"{name:14} {text}")
    _print_probes(checked, accelerator, seed=training.seed, packing=config.data.packing)
    accelerator.print("all checks passed; this was a dry run, and nothing was written outside the cache")


def _learning_rate(config: Any, checked: Checked) -> str:
    if config.training.learning_rate != "auto":
        return f"{config.training.learning_rate:g}"
    return f"{model_learning_rate(config, checked.model):g} (auto)"


def _likely_block_size(config: Any, checked: Checked, train_tokens: float | None) -> int:
    """``--block-size``, or what auto will choose, if there are as many tokens as the size of the data suggests.

    The largest size that auto may choose, if nothing suggests one.
    """
    if config.data.block_size != "auto":
        return int(config.data.block_size)
    context = checked.model.context
    if not train_tokens:
        return min(LONGEST, context)
    return auto_block_size(context, tokens=int(train_tokens), global_batch_size=config.training.global_batch_size)


def print_evaluation_plan(config: Any, checked: Checked, directory: RunDirectory, accelerator: Accelerator) -> None:
    """Print what an evaluation would do.

    Args:
        config: the configuration of ``recipes/evaluate.py``.
        checked: what the checks of that configuration found.
        directory: the output directory.
        accelerator: this process's Accelerator.

    Raises:
        UserError: a model cannot be loaded, or is not a causal language model.
    """
    drawn = draw_documents(load_held_out(config.data, checked.sources), config.evaluation.evaluation_tokens)
    _print_probes(checked, accelerator, seed=config.output.seed)
    names = " and the baseline ".join(found.config.model for found in reversed(list(checked.models.values())))
    place = f"{directory.path} ({directory.describe()})"
    accelerator.print(f"would measure {names} on {drawn}, about {counted(drawn.tokens, 'token')}, into {place}")
    accelerator.print("this was a dry run, and nothing was written outside the cache")


def _print_probes(checked: Checked, accelerator: Accelerator, *, seed: int, packing: str | None = None) -> None:
    """Load and probe every model; ``packing`` is that of training, None if nothing is trained."""
    if accelerator.is_main_process:  # one process, since all would load the same weights into the same memory
        for found in (*checked.models.values(), checked.judge, checked.amateur):
            if found is not None:
                trained = packing is not None and found is checked.model
                done = probe_in_dry_run(found, seed=seed, trained=trained, isolated=packing == "isolated")
                accelerator.print(f"{'probe':14} {found.setting} {found.config.model}: {done}")


def _evaluation_cost(
    config: Any, checked: Checked, block_size: int, train_tokens: float | None, held_out_tokens: float | None
) -> EvaluationCost:
    training = config.training
    step_tokens = training.global_batch_size * block_size
    steps = training.steps
    if steps is None and train_tokens is not None:
        steps = max(1.0, (training.epochs or DEFAULT_EPOCHS) * train_tokens / step_tokens)
    return EvaluationCost(
        config.evaluation.evaluation_tokens,
        config.run.training_evaluation_tokens,
        available=held_out_tokens,
        every=config.run.evaluate_every,
        step_tokens=step_tokens,
        steps=steps,
        retained=retained_tokens(checked.sources),
    )
