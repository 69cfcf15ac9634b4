"""Settings of experiment tracking."""

from dataclasses import dataclass
from typing import Literal

WandbMode = Literal["auto", "online", "offline", "disabled"]


@dataclass(frozen=True)
class TrackingConfig:
    """Experiment tracking. The run directory has all metrics in any case."""

    track: Literal["wandb", "none"] = "wandb"
    """Experiment tracker."""
    wandb_project: str = "textgen"
    """Weights & Biases project."""
    wandb_mode: WandbMode = "auto"
    """W&B mode; auto is online if you are logged in, otherwise offline."""
