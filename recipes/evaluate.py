"""Measure any saved or hub model, full or adapter: perplexity, and a comparison of decoding strategies.

Every document of --validation-data is scored, or else the validation split of --data. With --baseline, a second model
is measured on the same documents and prompts, and the difference comes with its own interval.

    accelerate launch recipes/evaluate.py --model runs/my-run/model --baseline tiny-gpt2
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

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
)
from textgen.run.directory import RunDirectory, launch
from textgen.training.distributed.launcher import check_launcher


@dataclass(frozen=True)
class OutputConfig:
    """What to compare with, where to write, and who is told."""

    config: str | None = None
    """YAML file with settings of the same names; flags come on top of it."""
    baseline: str | None = None
    """A second model to compare with, named like --model."""
    output_dir: str | None = None
    """Directory to write; under runs/, named by what is measured, if not given."""
    resume: Literal["auto", "never"] = "auto"
    """auto finishes what an earlier, interrupted evaluation began; never starts a new one beside it."""
    seed: int = 0
    """Seeds sampling and the intervals."""
    threads: int = 0
    """CPU threads of each process; 0 shares the machine's cores out evenly."""
    track: Literal["wandb", "none"] = "wandb"
    """Who mirrors the record."""
    wandb_project: str = "textgen"
    """Project on Weights & Biases."""
    wandb_mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    """auto is online when you are logged in, else offline."""
    dry_run: bool = False
    """Resolve and check everything, print the plan, and stop before anything is written."""


@dataclass(frozen=True)
class EvaluateConfig:
    model: ModelConfig
    adapters: AdapterConfig
    data: DataConfig
    output: OutputConfig
    evaluation: EvaluationConfig

    def directory(self) -> RunDirectory:
        name = f"evaluation-{Path(self.model.model).name}-{Path(self.data.validation_data or self.data.data).stem}"
        return RunDirectory(settings(self), given=self.output.output_dir, name=name, resume=self.output.resume)


def main(config: EvaluateConfig, directory: RunDirectory) -> None:
    # ------------------------------------------------------------------ check everything that can be checked cheaply
    from textgen.data.sources import held_out_documents

    check_launcher()
    check_settings(config.evaluation, config.model.problems(), config.adapters.problems(), config.data.problems())
    models = {"--model": config.model}
    if config.output.baseline:  # measured first, as "before" is
        baseline = replace(config.model, model=config.output.baseline, revision=None, from_scratch=False)
        models = {"--baseline": baseline} | models
    weaker = amateur_config(config.model, config.evaluation)
    others = ({"--amateur": weaker} if weaker else {}) | judge_config(config.model, config.evaluation)
    check_inputs(config.data, models | others)
    directory.check()

    # Only now the libraries that take seconds to import.
    from textgen.training.distributed.processes import environment, start_process

    plans = {
        flag: plan_model(model, config.evaluation, block_size=None, setting=flag) for flag, model in models.items()
    }
    judge_plan = plan_judge(config.model, config.evaluation)
    amateur_plans = [plan_amateur(weaker, config.evaluation, plan) for plan in plans.values()]

    accelerator = start_process(config.output.threads)
    say = accelerator.print
    if directory.status().get("state") == "done":
        say(
            f"This evaluation is finished; its results are in {directory.path} "
            "(--resume never makes a new one beside it)."
        )
        return
    documents = held_out_documents(config.data)
    if config.output.dry_run:
        names = " against ".join(model.model for model in reversed(models.values()))
        say(f"would measure {names} on {len(documents)} documents, into {directory.path}; nothing was written")
        return

    # ---------------------------------------------------------------------------------------- the output directory
    from textgen.reporting.evaluation_files import EvaluationFiles
    from textgen.reporting.jsonl import write_json
    from textgen.reporting.wandb_mirror import WandbMirror

    accelerator.wait_for_everyone()  # all have looked at the directory before one changes it
    files = EvaluationFiles(directory.path)
    if accelerator.is_main_process:
        directory.claim()
        directory.write_status("running")
        facts = {"model": config.model.model, "validation_documents": len(documents)}
        write_json(directory.path / "environment.json", environment(accelerator) | facts)
        mirror = WandbMirror.start(
            directory.path,
            directory.flat,
            run_id=directory.tracking_id(),
            project=config.output.wandb_project,
            mode=config.output.wandb_mode if config.output.track == "wandb" else "disabled",
            name=directory.path.name,
            say=say,
        )

    # ------------------------------------------------------------------------------------------------- measure each
    from textgen.evaluation.decoding.prompts import select_prompts
    from textgen.evaluation.measure_model import measure
    from textgen.model.kernels.swap_modules import lean
    from textgen.model.loading import load_model

    amateur = None
    if weaker and amateur_plans[-1]:
        amateur = load_model(amateur_plans[-1].location, weaker, seed=config.output.seed, setting="--amateur")
        amateur = lean(amateur).to(accelerator.device)
    for flag, model_config in models.items():
        when, plan = flag.removeprefix("--"), plans[flag]
        if files.has(when):
            continue
        model = load_model(plan.location, model_config, seed=config.output.seed, setting=flag)
        model = lean(model).to(accelerator.device)
        prompts = (
            []
            if config.evaluation.skip_decoding
            else select_prompts(
                documents,
                plan.tokenizer,
                prompts=config.evaluation.prompts,
                prompt_tokens=config.evaluation.prompt_tokens,
                max_new_tokens=config.evaluation.max_new_tokens,
            )
        )
        measured = measure(
            accelerator, model, plan.tokenizer, documents, prompts, config.evaluation,
            context=plan.context, seed=config.output.seed, name=model_config.model, progress=say, records=files.records,
            amateur=amateur, judge=load_judge(judge_plan, config.model, config.evaluation, accelerator.device),
        )  # fmt: skip
        if accelerator.is_main_process:
            files.write(when, measured)

    # ------------------------------------------------------------------------------------------------------- report
    from textgen.reporting.card import write_model_card
    from textgen.reporting.console import print_decoding, print_perplexity
    from textgen.reporting.report import write_report

    if accelerator.is_main_process:
        if config.output.baseline:
            files.write_difference("baseline", "model", seed=config.output.seed)
        report = write_report(directory.path)
        write_model_card(directory.path)
        print_perplexity(files.perplexity())
        print_decoding(files.decoding())
        say(f"report: {report}")
        mirror.finish(directory.path)
        directory.write_status("done", exit_code=0)
    accelerator.end_training()


if __name__ == "__main__":
    launch(EvaluateConfig, main, description=__doc__)
