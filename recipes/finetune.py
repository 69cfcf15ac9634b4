"""Fine-tune a causal language model, and say how good the result is.

With no flags at all, this trains the bundled model on the bundled text, offline. Every setting has a flag of its own
and the same name in a --config YAML file; later wins: defaults < YAML < flags.

    accelerate launch recipes/finetune.py
    accelerate launch recipes/finetune.py --model gpt2 --method lora --data my-texts/ --block-size 512
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

from textgen.config import settings
from textgen.data.config import DataConfig
from textgen.evaluation.config import EvaluationConfig
from textgen.model.config import AdapterConfig, ModelConfig
from textgen.plan.check import (
    amateur_config,
    check_inputs,
    check_settings,
    judge_config,
    load_judge,
    plan_amateur,
    plan_judge,
    plan_model,
    say_plan,
)
from textgen.run.directory import RunConfig, RunDirectory, launch
from textgen.training.config import EngineConfig, TrainingConfig, world_size
from textgen.training.distributed.launcher import check_launcher


@dataclass(frozen=True)
class FinetuneConfig:
    model: ModelConfig
    adapters: AdapterConfig
    data: DataConfig
    training: TrainingConfig
    engine: EngineConfig
    run: RunConfig
    evaluation: EvaluationConfig

    def directory(self) -> RunDirectory:
        name = f"{Path(self.model.model).name}-{self.model.method}-{Path(self.data.data).stem}"
        return RunDirectory(settings(self), given=self.run.run_dir, name=name, resume=self.run.resume)


def main(config: FinetuneConfig, directory: RunDirectory) -> None:
    # ------------------------------------------------------------------ check everything that can be checked cheaply
    check_launcher()
    check_settings(
        config.evaluation,
        config.model.problems(),
        config.adapters.problems(),
        config.data.problems(),
        config.training.problems(world_size()),
        config.engine.problems(config.training, world_size()),
        config.run.problems(),
    )
    weaker = amateur_config(config.model, config.evaluation)
    others = ({"--amateur": weaker} if weaker else {}) | judge_config(config.model, config.evaluation)
    check_inputs(config.data, {"--model": config.model} | others)
    directory.check()

    # Only now the libraries that take seconds to import.
    from textgen.training.distributed.processes import (
        environment,
        peak_memory_bytes,
        precision_of,
        prepare,
        start_process,
        threads,
    )
    from textgen.training.precision import COMPUTE_DTYPES, in_words

    plan = plan_model(
        config.model, config.evaluation, block_size=config.data.block_size, samples=config.run.sample_every > 0
    )
    plan.refuse_adapter()
    judge_plan = plan_judge(config.model, config.evaluation)
    amateur_plan = plan_amateur(weaker, config.evaluation, plan)

    accelerator = start_process(config.engine.threads, precision=config.engine.precision, exact=config.engine.exact)
    say = accelerator.print
    precision = precision_of(accelerator)
    in_what = in_words(precision, config.engine.precision, accelerator.device.type)

    if directory.status().get("state") == "done":
        say(f"This run is finished; its results are in {directory.path} (--resume never starts a new one beside it).")
        return
    if config.run.dry_run:
        say_plan(say, config, plan, directory, accelerator.num_processes, in_what)
        return

    # --------------------------------------------------------------------------------------------------------- data
    from textgen.data.corpus import load_corpus
    from textgen.evaluation.decoding.prompts import select_prompts
    from textgen.evaluation.decoding.training_samples import PROMPTS as SAMPLED_PROMPTS
    from textgen.evaluation.decoding.training_samples import write_samples

    corpus = load_corpus(config.data, plan.tokenizer)
    cutting = {
        "prompt_tokens": config.evaluation.prompt_tokens,
        "max_new_tokens": config.evaluation.max_new_tokens,
    }
    prompts = sampled = []
    if not config.evaluation.skip_decoding:
        prompts = select_prompts(corpus.validation, plan.tokenizer, prompts=config.evaluation.prompts, **cutting)
    if config.run.sample_every:
        sampled = select_prompts(corpus.validation, plan.tokenizer, prompts=SAMPLED_PROMPTS, **cutting)
    say(
        f"{config.data.data}: {len(corpus.offsets):,} documents and {len(corpus.tokens):,} tokens to train on; "
        f"{len(corpus.validation):,} documents held out"
    )

    # -------------------------------------------------------------------------------------------------------- model
    from textgen.model.kernels.swap_modules import lean
    from textgen.model.loading import load_model, parameter_counts, save_model, weights_fingerprint
    from textgen.model.loss import ScoredModel
    from textgen.training.optimizers import build_optimizer, evaluation_weights

    adapted = config.model.method != "full"
    bits = config.adapters.qlora_bits if config.model.method == "qlora" else None
    model = load_model(
        plan.location, config.model,
        seed=config.training.seed, quantize_bits=bits, compute_dtype=COMPUTE_DTYPES[precision],
    )  # fmt: skip
    base_fingerprint = weights_fingerprint(model)
    if adapted:
        from textgen.model.lora import add_adapters

        model = add_adapters(
            model, config.adapters, plan.location.base,
            seed=config.training.seed, dtype=None if bits else COMPUTE_DTYPES[precision],
        )  # fmt: skip
    plain_model = lean(model).to(accelerator.device)
    trainable, total = parameter_counts(plain_model)
    say(f"{config.model.model}: {trainable:,} of {total:,} parameters are trained ({trainable / total:.1%})")

    # ---------------------------------------------------------------------- how it is trained: batches and processes
    from textgen.data.blocks import GlobalBatches
    from textgen.model.layers import checkpoint_activations, compile_blocks

    if config.engine.gradient_checkpointing:
        checkpoint_activations(plain_model)
    microbatch_size = config.training.microbatch_size
    if microbatch_size == "auto":
        from textgen.training.memory import fit_microbatch

        microbatch_size = fit_microbatch(
            accelerator, ScoredModel(plain_model),
            block_size=config.data.block_size, global_batch_size=config.training.global_batch_size,
            before=directory.environment().get("microbatch_size"),
        )  # fmt: skip
        say(f"{microbatch_size} blocks in a microbatch")
    if config.engine.compile:
        compile_blocks(plain_model)
    batches = GlobalBatches(
        corpus.tokens,
        block_size=config.data.block_size,
        global_batch_size=config.training.global_batch_size,
        microbatch_size=microbatch_size,
        seed=config.training.seed,
        documents=None if config.data.packing else corpus.offsets,
    )
    total_steps = config.training.total_steps(batches.steps_per_epoch)
    optimizer = build_optimizer(plain_model, config.training, lora_plus_ratio=config.adapters.lora_plus_ratio)
    model, optimizer = prepare(
        accelerator, ScoredModel(plain_model), optimizer,
        max_grad_norm=config.training.max_grad_norm, exact=config.engine.exact,
    )  # fmt: skip
    fingerprints = {"settings": directory.fingerprint, "data": corpus.fingerprint, "model": base_fingerprint}
    fingerprints |= {"precision": precision} | ({"threads": str(threads())} if config.engine.exact else {})

    # -------------------------------------------------------------------------------------- how good is it before?
    from textgen.evaluation.measure_model import measure, measure_perplexity
    from textgen.reporting.evaluation_files import EvaluationFiles
    from textgen.training.distributed.sharding import full_state, whole

    files = EvaluationFiles(directory.path)
    measuring = {"context": plan.context, "seed": config.training.seed}
    amateur = None
    if weaker and amateur_plan:
        amateur = load_model(amateur_plan.location, weaker, seed=config.training.seed, setting="--amateur")
        amateur = lean(amateur).to(accelerator.device)
    accelerator.wait_for_everyone()  # all have looked at the directory before one changes it
    if accelerator.is_main_process:
        directory.claim()
    before = None
    if not files.has("before"):  # ahead of resuming, which may put trained weights in place
        with whole(accelerator, model):
            before = measure(
                accelerator, plain_model, plan.tokenizer, corpus.validation, prompts, config.evaluation,
                name=config.model.model, amateur=amateur, progress=say, records=files.records, **measuring,
                judge=load_judge(judge_plan, config.model, config.evaluation, accelerator.device),
            )  # fmt: skip

    # ---------------------------------------------------------------------------- the run directory, new or resumed
    from textgen.reporting.jsonl import MetricsRecord, write_json
    from textgen.reporting.wandb_mirror import WandbMirror
    from textgen.training.checkpoints import resume, save_checkpoint
    from textgen.training.step import loss_scale, restore_loss_scale, training_step

    accelerator.wait_for_everyone()  # all have seen what was measured before one writes it down
    checkpoints = directory.path / "checkpoints"
    state = resume(config.run.resume, checkpoints, plain_model, optimizer.optimizer, fingerprints, say)
    restore_loss_scale(accelerator, state.loss_scale)
    record, timing, written = (
        MetricsRecord(directory.path / name) for name in ("metrics.jsonl", "timing.jsonl", "samples.jsonl")
    )
    if accelerator.is_main_process:
        directory.write_status("running", step=state.step)
        record.truncate_after(state.step if state.step else -1)
        timing.truncate_after(state.step)
        written.truncate_after(state.step if state.step else -1)
        if before:
            files.write("before", before)
        facts = {
            "model": config.model.model,
            "trainable_parameters": trainable,
            "total_parameters": total,
            "train_documents": len(corpus.offsets),
            "validation_documents": len(corpus.validation),
            "train_tokens": len(corpus.tokens) - 1,
            "data_sha256": corpus.fingerprint,
            "microbatch_size": microbatch_size,
        }
        write_json(directory.path / "environment.json", environment(accelerator) | facts)
        mirror = WandbMirror.start(
            directory.path,
            directory.flat,
            run_id=directory.tracking_id(),
            project=config.run.wandb_project,
            mode=config.run.wandb_mode if config.run.track == "wandb" else "disabled",
            name=directory.path.name,
            say=say,
        )
        mirror.replay(record.read())
        mirror.log_samples(written.read())

    # ----------------------------------------------------------------------------------------------------- training
    from textgen.reporting.console import step_line
    from textgen.training.schedule import learning_rate

    def look(step: int) -> None:
        with evaluation_weights(optimizer), whole(accelerator, model):
            rows = write_samples(
                plain_model, plan.tokenizer, sampled,
                step=step, max_new_tokens=config.evaluation.max_new_tokens, seed=config.training.seed,
                device=accelerator.device,
            )  # fmt: skip
        if accelerator.is_main_process:
            for row in rows:
                written.append(row)
            mirror.log_samples(rows)

    model.train()
    if config.run.sample_every and not state.step:
        look(0)
    say(
        f"training for {total_steps:,} steps on {accelerator.num_processes} process(es) in {in_what}, "
        f"into {directory.path}"
    )
    seconds, logged_step, logged_targets = 0.0, state.step, state.targets
    for step in range(state.step + 1, total_steps + 1):
        last = step == total_steps

        # a single training step
        started = time.perf_counter()
        rate = learning_rate(step, config.training, total_steps)
        result = training_step(
            accelerator, model, optimizer, batches,
            step=step, learning_rate=rate, max_grad_norm=config.training.max_grad_norm, exact=config.engine.exact,
        )  # fmt: skip
        seconds += time.perf_counter() - started
        state = replace(state, step=step, targets=state.targets + result.targets, loss_scale=loss_scale(accelerator))
        row: dict[str, float] = {}

        # once in a while: log
        if step % config.run.log_every == 0 or last:
            row |= {"train/loss": result.loss, "train/learning_rate": rate, "train/grad_norm": result.grad_norm}
            row |= {"train/tokens": state.targets}

        # once in a while: evaluate
        improved = False
        if last or (config.run.evaluate_every and step % config.run.evaluate_every == 0):
            with evaluation_weights(optimizer), whole(accelerator, model):
                figures, _ = measure_perplexity(
                    accelerator, plain_model, plan.tokenizer, corpus.validation, config.evaluation, **measuring
                )
            row |= {"eval/loss": figures["nll_sum"] / figures["tokens"]}
            row |= {f"eval/{name}": figures[name] for name in ("token_perplexity", "bits_per_byte")}
            improved = state.best_value is None or figures["bits_per_byte"] < state.best_value
            if improved:
                state = replace(state, best_step=step, best_value=figures["bits_per_byte"])

        # once in a while: write it down
        if row and accelerator.is_main_process:
            speed = (state.targets - logged_targets) / seconds
            record.append({"step": step} | row)
            timing.append(
                {
                    "step": step,
                    "seconds": seconds,
                    "tokens_per_second": speed,
                    "peak_memory_bytes": peak_memory_bytes(accelerator),
                }
            )
            mirror.log({"step": step} | row)
            directory.write_status("running", step=step)
            left = (total_steps - step) * seconds / (step - logged_step)
            say(step_line({"step": step} | row, total_steps, tokens_per_second=speed, seconds_left=left))
            seconds, logged_step, logged_targets = 0.0, step, state.targets

        # once in a while: sample
        if config.run.sample_every and (last or step % config.run.sample_every == 0):
            look(step)

        # once in a while: save
        due = config.run.checkpoint_every and step % config.run.checkpoint_every == 0
        if last or improved or due:
            save_checkpoint(
                checkpoints, plain_model, optimizer.optimizer, state, fingerprints, keep=config.run.keep_checkpoints
            )

    # --------------------------------------------------------------------------------------- the result, and how good
    with evaluation_weights(optimizer):
        gathered = full_state(plain_model)
        if accelerator.is_main_process:
            save_model(
                plain_model, plan.tokenizer, directory.path / "model",
                base_fingerprint=base_fingerprint if adapted else None, quantize_bits=bits, state=gathered,
            )  # fmt: skip
        if not files.has("after"):
            with whole(accelerator, model):
                after = measure(
                    accelerator, plain_model, plan.tokenizer, corpus.validation, prompts, config.evaluation,
                    name=str(directory.path / "model"), progress=say, records=files.records, **measuring,
                    amateur=amateur, judge=load_judge(judge_plan, config.model, config.evaluation, accelerator.device),
                )  # fmt: skip
            if accelerator.is_main_process:
                files.write("after", after)

    # ------------------------------------------------------------------------------------------------------- report
    from textgen.reporting.card import write_model_card
    from textgen.reporting.console import print_decoding, print_perplexity
    from textgen.reporting.report import write_report

    if accelerator.is_main_process:
        files.write_difference("before", "after", seed=config.training.seed)
        report = write_report(directory.path)
        write_model_card(directory.path)
        print_perplexity(files.perplexity())
        print_decoding(files.decoding())
        say(f"report: {report}")
        mirror.finish(directory.path)
        directory.write_status("done", step=total_steps, exit_code=0)
        say(f"model:  {directory.path / 'model'}")
    accelerator.end_training()


if __name__ == "__main__":
    launch(FinetuneConfig, main, description=__doc__)
