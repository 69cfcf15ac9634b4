"""Fine-tune a causal language model and evaluate the result.

With no flags at all, this trains the bundled model on the bundled text, offline. Every setting has a flag of its own
and the same name in a --config YAML file; later wins: defaults < YAML < flags.

    accelerate launch recipes/finetune.py
    accelerate launch recipes/finetune.py --model gpt2 --method lora --data my-texts/ --block-size 512
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from textgen import signals
from textgen.config import settings
from textgen.data.config import DataConfig
from textgen.data.mixture.parts import data_name
from textgen.errors import Preempted
from textgen.evaluation.config import EvaluationConfig
from textgen.model.config import AdapterConfig, ModelConfig
from textgen.plan.check import check_finetuning
from textgen.reporting.config import TrackingConfig
from textgen.run.config import RunConfig
from textgen.run.directory import RunDirectory
from textgen.run.main import run_recipe
from textgen.training.config import EngineConfig, TrainingConfig


@dataclass(frozen=True)
class FinetuneConfig:
    model: ModelConfig
    adapters: AdapterConfig
    data: DataConfig
    training: TrainingConfig
    engine: EngineConfig
    run: RunConfig
    tracking: TrackingConfig
    evaluation: EvaluationConfig

    def directory(self) -> RunDirectory:
        name = f"{Path(self.model.model).name}-{self.model.method}-{data_name(self.data.data)}"
        return RunDirectory(settings(self), path=self.run.run_dir, name=name, resume=self.run.resume)


def main(config: FinetuneConfig, directory: RunDirectory) -> None:
    # ------------------------------------------------------------------ check everything that can be checked cheaply
    checked = check_finetuning(config, directory)

    # These imports take seconds, so they come after the cheap checks.
    from textgen.data.blocks import GlobalBatches
    from textgen.data.mixed_corpus import describe_parts, load_training_data, part_facts
    from textgen.data.order import ORDER
    from textgen.data.overlap.validation_overlap import check_overlap
    from textgen.evaluation.balance import load_balance
    from textgen.evaluation.decoding.training_samples import TextSampler
    from textgen.evaluation.draw_documents import draw_documents
    from textgen.evaluation.loaded_model import LoadedModel
    from textgen.evaluation.measure_model import Evaluation
    from textgen.model.build import build_model
    from textgen.plan.dry_run import print_plan
    from textgen.plan.probe_models import probe_models
    from textgen.plan.resolve import resolve_blocks, resolve_schedule
    from textgen.printable import counted
    from textgen.reporting.run_log import RunLog
    from textgen.training.distributed.processes import compute_dtype, describe_launch, start_process
    from textgen.training.microbatch_size import resolve_microbatch_size
    from textgen.training.prepare import prepare
    from textgen.training.schedule import learning_rate_at
    from textgen.training.step import settle_gradient_buckets, training_step
    from textgen.training.step_events import check_skipped, state_after, step_event

    accelerator = start_process(config.engine.threads, precision=config.engine.precision, exact=config.engine.exact)
    echo = accelerator.print
    if config.run.dry_run:
        print_plan(config, checked, directory, accelerator)
        return
    if directory.is_complete():
        directory.restore_status()
        echo(f"Run already complete: {directory.path}. Use --resume=never to start another alongside.")
        return

    # -------------------------------------------------------------------------------------------------------- model
    trainable = build_model(
        checked.model, config.adapters, device=accelerator.device, dtype=compute_dtype(accelerator),
        seed=config.training.seed, gradient_checkpointing=config.engine.gradient_checkpointing,
        isolated=config.data.packing == "isolated",
    )  # fmt: skip
    echo(f"{config.model.model}: {trainable}")
    probe_models((checked.judge, checked.amateur), accelerator, seed=config.training.seed)

    # --------------------------------------------------------------------------------------------------------- data
    check_overlap(config.data, checked.sources, echo)
    corpus = load_training_data(config.data, checked.model.tokenizer, checked.sources)
    drawn = draw_documents(
        corpus.validation, config.evaluation.evaluation_tokens, config.run.training_evaluation_tokens
    )
    echo(f"{config.data.data}: {corpus}{drawn.shares()}")
    config = resolve_blocks(config, directory, trainable, corpus, echo)  # --block-size and --packing: auto
    balance = load_balance(config.data, config.evaluation, checked.sources, drawn, corpus)

    # ----------------------------------------------------------------------------- batches, optimizer, checkpoints
    microbatch_size = resolve_microbatch_size(
        accelerator, trainable.model, config.training, block_size=config.data.block_size,
        previous=directory.environment().get("microbatch_size"),  # a resumed run keeps the size that auto chose
    )  # fmt: skip
    batches = GlobalBatches(
        corpus.stream, block_size=config.data.block_size, packing=config.data.packing,
        global_batch_size=config.training.global_batch_size, microbatch_size=microbatch_size,
        seed=config.training.seed, block_counts=corpus.block_counts,
    )  # fmt: skip
    total_steps = config.training.total_steps(batches.steps_per_epoch)
    parts = part_facts(corpus, batches.epochs_of_parts(total_steps))
    for line in describe_parts(parts):
        echo(line)
    config = resolve_schedule(config, directory, checked.model, total_steps, echo)  # --learning-rate, --warmup-steps
    prepared = prepare(accelerator, trainable, config.training, config.engine, config.adapters)
    checkpoints = prepared.checkpoints(
        directory.path / "checkpoints", keep=config.run.keep_checkpoints, on_full_disk=config.run.on_full_disk,
        fingerprints={
            "settings": directory.checkpoint_fingerprint, "data": corpus.fingerprint, "order of blocks": ORDER
        },
        inputs=checked.inputs, extra=directory.copies,
    )  # fmt: skip
    checkpoint = checkpoints.find(config.run.resume, echo)  # now: an unusable one must fail before the first evaluation

    # ------------------------------------------------------------------------------------------- the run directory
    facts = trainable.facts() | corpus.facts() | parts | drawn.facts() | {"microbatch_size": microbatch_size}
    facts |= {"total_steps": total_steps, "inputs": checked.inputs}
    run_log = RunLog(accelerator, directory, config.tracking, facts, total_steps=total_steps)

    # ------------------------------------------------------------------------------------ evaluate before training
    loaded = LoadedModel(accelerator, prepared.model, checked.model.tokenizer, checked.model.context)
    evaluation = Evaluation(
        config.evaluation, drawn, config.training.seed, balance=balance,
        judge=checked.judge, amateur=checked.amateur, score_cache=run_log.results.score_cache,
    )  # fmt: skip

    # Perplexity: textgen/evaluation/perplexity; strategies: …/decoding; metrics of their texts: …/quality.
    def measure(moment: str, name: str) -> None:
        if not run_log.results.has(moment):
            with prepared.evaluation_weights():
                run_log.write_measurement(moment, evaluation.measure(replace(loaded, name=name), echo))

    measure("before", config.model.model)
    state = checkpoints.load(checkpoint, echo)  # only now: "before" measures the weights that it replaces
    run_log.resume_from(state, checkpoint)

    # ----------------------------------------------------------------------------------------------------- training
    sampler = None
    if config.run.sample_every:
        sampler = TextSampler(loaded, drawn.documents, config.evaluation, seed=config.training.seed)

    def sample(step: int) -> None:
        with prepared.evaluation_weights():
            run_log.log_samples(sampler(step))

    def due(every: int, step: int) -> bool:
        return every > 0 and step % every == 0 and not state.skipped  # then the weights are those of the step before

    if sampler and state.step == 0:
        sample(0)
    launched = describe_launch(accelerator, config.engine.precision)
    echo(f"training for {counted(total_steps, 'step')} on {launched}, into {directory.path}")
    settle_gradient_buckets(accelerator, prepared.training_model, batches)
    try:
        for step in signals.deferred(range(state.first_step, total_steps + 1)):
            # a single training step: forward, backward, clip and update are in textgen/training/step.py
            if step > state.step:  # otherwise only what follows the step is left to do, as a signal came in between
                learning_rate = learning_rate_at(step, config.training, total_steps)
                result = training_step(
                    accelerator, prepared.training_model, prepared.optimizer, batches, step=step,
                    learning_rate=learning_rate, max_grad_norm=config.training.max_grad_norm,
                    exact=config.engine.exact, stopping=signals.requested(),
                )  # fmt: skip
                checkpoints.poll()
                event = step_event(state, step, result)
                state = state_after(state, step, result, learning_rate)
                run_log.add_step(result)
                if event:  # the step was skipped, as its loss or gradient is not finite; or the loss has a spike
                    run_log.log_event(event | {"documents": corpus.document_ids(batches.documents(step))})
                check_skipped(state, result, config.training.max_skipped_steps)
                if result.stopping:
                    raise Preempted(signals.reason())
            row: dict[str, float] = {}
            last = step == total_steps

            # once in a while: log
            if last or state.skipped or due(config.run.log_every, step):
                row |= state.metrics

            # once in a while: evaluate
            if last or due(config.run.evaluate_every, step):
                with prepared.evaluation_weights():
                    row |= evaluation.held_out_metrics(loaded)
                state = state.evaluated(row["eval/bits_per_byte"])
            if row:
                run_log.log({"step": step} | row)

            # once in a while: sample
            if sampler and (last or due(config.run.sample_every, step)):
                sample(step)

            # once in a while: save
            state = state.recorded()
            if last or state.is_best or due(config.run.checkpoint_every, step):
                checkpoints.save(state)
    except Preempted:  # a signal to any process, after a step or in an evaluation: all are here
        checkpoints.save(state)
        checkpoints.wait()
        accelerator.wait_for_everyone()
        raise Preempted(signals.reason(), saved=state.step) from None

    # --------------------------------------------------------------------- save, evaluate after training, report
    checkpoints.wait()
    prepared.save(directory.path / "model")
    run_log.seal_model(directory.path / "model")
    measure("after", str(directory.path / "model"))
    run_log.apply_recommendation("after")  # into model/generation_config.json
    run_log.write_difference("before", "after", seed=config.training.seed)
    run_log.finish()
    echo(f"model:  {directory.path / 'model'}")


if __name__ == "__main__":
    run_recipe(FinetuneConfig, main, description=__doc__)
