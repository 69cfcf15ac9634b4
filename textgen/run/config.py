"""Settings of a run: where it is written, and how often it logs, evaluates, samples and saves."""

from dataclasses import dataclass
from typing import Literal

from textgen.config import MOST_THREADS, at_least, at_most
from textgen.errors import UserError
from textgen.files import user_path

# Settings that no result depends on: two runs that differ in these alone are the same run.
NOT_FINGERPRINTED = {
    "run_dir",
    "output_dir",
    "resume",
    "checkpoint_every",
    "max_skipped_steps",
    "keep_checkpoints",
    "on_full_disk",
    "track",
    "wandb_project",
    "wandb_mode",
    "wandb_timeout",
    "wandb_tags",
    "wandb_group",
    "wandb_notes",
    "dry_run",
    "quiet",
    "verify_data",
    "threads",
}


@dataclass(frozen=True)
class RunConfig:
    """The run directory, and the intervals of logging, evaluation, sampling and checkpoints."""

    config: str | None = None
    """YAML file of settings; flags override it."""
    run_dir: str | None = None
    """Directory of the run. Default: a directory under runs/, named after the model, method, data and settings."""
    resume: str = "auto"
    """auto: resume this run if it was interrupted, or is to be longer; never: start a new run alongside; PATH: resume
    from that checkpoint, also of another run with other settings."""
    evaluate_every: int = 50
    """Measure perplexity on held-out documents every N steps; 0: only before and after training."""
    training_evaluation_tokens: int | Literal["all"] = 50_000
    """Amount of held-out text to score in each evaluation during training: the first documents of those drawn for
    --evaluation-tokens. all: as much as before and after training."""
    checkpoint_every: int = 50
    """Save a checkpoint every N steps, and after each evaluation that is the best so far; 0: no regular ones. The last
    step is always saved."""
    keep_checkpoints: int = 2
    """Number of recent checkpoints to keep, in addition to the best one."""
    on_full_disk: Literal["stop", "continue"] = "stop"
    """If a checkpoint cannot be written: stop, or continue training without it and try again at the next one."""
    log_every: int = 10
    """Log metrics every N steps."""
    sample_every: int = 0
    """Generate sample texts every N steps, always from the same prompts and random seeds; 0: never."""
    recommend: bool = True
    """Write the recommended decoding strategy into model/generation_config.json, if it is confirmed. The report has it
    in any case."""
    dry_run: bool = False
    """Check all settings and inputs, print the plan, and exit without writing anything."""

    def problems(self) -> list[str]:
        """Invalid settings, one message each."""
        least = {"evaluate_every": 0, "training_evaluation_tokens": 1, "checkpoint_every": 0}
        found = at_least(self, least | {"keep_checkpoints": 1, "log_every": 1, "sample_every": 0})
        if self.resume not in ("auto", "never") and (reason := _no_checkpoint(self.resume)):
            found.append(f"--resume {self.resume}: not a checkpoint {reason}")
        return found


@dataclass(frozen=True)
class OutputConfig:
    """The output directory of an evaluation, the model to compare with, and how it computes."""

    config: str | None = None
    """YAML file of settings; flags override it."""
    baseline: str | None = None
    """A second model to compare with, specified like --model."""
    output_dir: str | None = None
    """Output directory. Default: a directory under runs/, named after the model, data and settings."""
    resume: Literal["auto", "never"] = "auto"
    """auto: resume this evaluation if it was interrupted; never: start a new one alongside."""
    seed: int = 0
    """Random seed of sampling and of the bootstrap."""
    threads: int = 0
    """CPU threads per process; 0: divide the machine's cores evenly."""
    dry_run: bool = False
    """Check all settings and inputs, print the plan, and exit without writing anything."""

    def problems(self) -> list[str]:
        """Invalid settings, one message each."""
        return at_least(self, {"threads": 0, "seed": 0}) + at_most(self, {"threads": MOST_THREADS})


def _no_checkpoint(path: str) -> str | None:
    """Why a path is not that of a checkpoint, and what to use instead; None if it may be one."""
    try:
        place = user_path(path, setting="--resume")
        if newest := max((place / "checkpoints").glob("step-*"), default=None):
            return f"but a run directory. Use one of its checkpoints, such as {newest}."
        if (place / "manifest.json").is_file() and not (place / "status.json").is_file():  # a finished run has both
            return None
    except (UserError, OSError):
        pass
    return "(no manifest.json there). Use auto, never, or the path of a checkpoint directory."
