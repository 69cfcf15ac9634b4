"""The dry run: what a fine-tuning run would do, printed without writing anything."""

from typing import Any

from accelerate import Accelerator

from textgen.data.corpus import preview_corpus
from textgen.plan.check import Checked
from textgen.run.directory import RunDirectory
from textgen.training.config import DEFAULT_EPOCHS
from textgen.training.distributed.processes import describe_precision


def print_plan(config: Any, checked: Checked, directory: RunDirectory, accelerator: Accelerator) -> None:
    """Print what a run would do, and read enough of the data to know that it can start.

    Args:
        config: of ``recipes/finetune.py``.
        checked: what its checks found.
        directory: of the run.
        accelerator: of its processes.

    Raises:
        UserError: the data cannot be tokenised, does not fill a block, or holds no document out.
    """
    training, processes = config.training, accelerator.num_processes
    length = f"{training.steps} steps" if training.steps else f"{training.epochs or DEFAULT_EPOCHS:g} epoch(s)"
    if training.microbatch_size == "auto":
        share = f"in the largest microbatches that fit into the memory of {processes} process(es)"
    else:
        microbatches = training.global_batch_size // training.microbatch_size
        share = f"{microbatches} microbatch(es), {microbatches // processes} on each of {processes} process(es)"
    start = "random weights" if config.model.from_scratch else "pretrained weights"
    precision = describe_precision(accelerator, config.engine.precision)
    rows = {
        "model": f"{config.model.model} ({checked.model.architecture}, context {checked.model.context})",
        "method": f"{config.model.method}, from {start}",
        "data": f"{config.data.data}: {preview_corpus(config.data, checked.model.tokenizer, checked.sources)}",
        "training": f"{length}, {training.optimizer}, {training.schedule}, peak learning rate "
        f"{training.learning_rate:g}, {precision}",
        "batches": f"{training.global_batch_size} blocks of {config.data.block_size} tokens, {share}",
        "evaluation": f"{config.evaluation.convention} perplexity; strategies "
        + ("skipped" if config.evaluation.skip_decoding else config.evaluation.strategies),
        "run directory": f"{directory.path} ({'to be resumed' if directory.exists() else 'new'})",
    }
    for name, text in rows.items():
        accelerator.print(f"{name:14} {text}")
    accelerator.print("all checks passed; this was a dry run, and nothing was written")
