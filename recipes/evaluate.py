"""Measure any saved or hub model, full or adapter: perplexity, and a comparison of decoding strategies.

Scores documents of --validation-data, or else of the validation split of --data, up to --evaluation-tokens of text.
With --baseline, a second model is measured on the same documents and prompts, and the difference comes with its own
interval.

    accelerate launch recipes/evaluate.py --model runs/my-run/model --baseline tiny-gpt2
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from textgen.config import settings
from textgen.data.config import DataConfig
from textgen.data.mixture.parts import data_name
from textgen.evaluation.config import EvaluationConfig
from textgen.model.config import AdapterConfig, ModelConfig
from textgen.plan.check import check_evaluation
from textgen.reporting.config import TrackingConfig
from textgen.run.config import OutputConfig
from textgen.run.directory import RunDirectory
from textgen.run.main import run_recipe


@dataclass(frozen=True)
class EvaluateConfig:
    model: ModelConfig
    adapters: AdapterConfig
    data: DataConfig
    output: OutputConfig
    tracking: TrackingConfig
    evaluation: EvaluationConfig

    def directory(self) -> RunDirectory:
        name = f"evaluation-{Path(self.model.model).name}-{data_name(self.data.validation_data or self.data.data)}"
        return RunDirectory(settings(self), path=self.output.output_dir, name=name, resume=self.output.resume)


def main(config: EvaluateConfig, directory: RunDirectory) -> None:
    # ------------------------------------------------------------------ check everything that can be checked cheaply
    checked = check_evaluation(config, directory)

    # These imports take seconds, so they come after the cheap checks.
    from textgen.data.corpus import load_held_out
    from textgen.evaluation.balance import load_balance
    from textgen.evaluation.draw_documents import draw_documents
    from textgen.evaluation.loaded_model import LoadedModel
    from textgen.evaluation.measure_model import Evaluation
    from textgen.plan.dry_run import print_evaluation_plan
    from textgen.plan.probe_models import probe_models
    from textgen.reporting.run_log import RunLog
    from textgen.training.distributed.processes import start_process

    accelerator = start_process(config.output.threads)
    echo = accelerator.print
    if directory.is_complete() and not config.output.dry_run:
        directory.restore_status()
        echo(f"Evaluation already complete: {directory.path}. Use --resume=never to start another alongside.")
        return
    if config.output.dry_run:
        print_evaluation_plan(config, checked, directory, accelerator)
        return

    # ------------------------------------------------------------------- all models, before any is measured, and data
    models = {
        moment: LoadedModel.load(accelerator, found, seed=config.output.seed)
        for moment, found in checked.models.items()
    }
    probe_models((checked.judge, checked.amateur), accelerator, seed=config.output.seed)
    drawn = draw_documents(load_held_out(config.data, checked.sources), config.evaluation.evaluation_tokens)
    balance = load_balance(config.data, config.evaluation, checked.sources, drawn)

    # ---------------------------------------------------------------------------------------- the output directory
    run_log = RunLog(accelerator, directory, config.tracking, {"model": config.model.model} | drawn.facts())

    # ----------------------------------------------------------------------------------- measure each, baseline first
    evaluation = Evaluation(
        config.evaluation, drawn, config.output.seed, balance=balance,
        judge=checked.judge, amateur=checked.amateur, score_cache=run_log.results.score_cache,
    )  # fmt: skip
    for moment, loaded in models.items():
        if not run_log.results.has(moment):
            run_log.write_measurement(moment, evaluation.measure(loaded, echo))

    # ------------------------------------------------------------------------------------------------------- report
    if config.output.baseline:
        run_log.write_difference("baseline", "model", seed=config.output.seed)
    run_log.finish()


if __name__ == "__main__":
    run_recipe(EvaluateConfig, main, description=__doc__)
