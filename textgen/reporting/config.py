"""Settings of experiment tracking."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class TrackingConfig:
    """Experiment tracking; the record in the run directory is written in any case."""

    track: Literal["wandb", "none"] = "wandb"
    """Experiment tracker."""
    wandb_project: str = "textgen"
    """Weights & Biases project."""
    wandb_mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    """auto: online if you are logged in, otherwise offline."""

    @property
    def mode(self) -> Literal["auto", "online", "offline", "disabled"]:
        """The W&B mode in force."""
        return self.wandb_mode if self.track == "wandb" else "disabled"
