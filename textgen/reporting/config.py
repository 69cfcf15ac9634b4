"""Settings of experiment tracking."""

from dataclasses import dataclass
from typing import Literal

from textgen.config import at_least

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
    wandb_timeout: int = 120
    """The most seconds to wait for W&B at the end of the run. What it lacks then, `textgen replay` uploads."""

    def problems(self) -> list[str]:
        """Invalid settings, one message each."""
        return at_least(self, {"wandb_timeout": 1})
