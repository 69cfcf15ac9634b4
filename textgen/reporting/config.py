"""Settings of experiment tracking."""

import difflib
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

from textgen.config import at_least
from textgen.redaction import redact

WandbMode = Literal["auto", "online", "offline", "disabled"]

NO_TRACKER = "none"

PACKAGES = {"wandb": "wandb", "tensorboard": "tensorboard", "trackio": "trackio", "mlflow": "mlflow"}
"""A value of ``--track`` → the package that it needs, by which it is also installed."""

_LONGEST_TAG = 64  # characters that W&B takes


@dataclass(frozen=True)
class TrackingConfig:
    """Experiment tracking, and what is printed. The run directory has everything in any case."""

    track: str = "wandb"
    """Experiment trackers, separated by commas: wandb, tensorboard, trackio, mlflow; or none."""
    wandb_project: str = "textgen"
    """Weights & Biases project; also Trackio's project and MLflow's experiment."""
    wandb_mode: WandbMode = "auto"
    """W&B mode; auto is online if you are logged in, otherwise offline."""
    wandb_timeout: int = 120
    """The most seconds to wait for a tracker at the end of the run. What it lacks then, `textgen replay` sends."""
    wandb_tags: str = ""
    """Tags of the W&B run, separated by commas."""
    wandb_group: str | None = None
    """Group of W&B runs that this one belongs to, such as the seeds of one experiment."""
    wandb_notes: str | None = None
    """A description of the W&B run."""

    quiet: bool = False
    """Print warnings and errors only."""

    @property
    def trackers(self) -> list[str]:
        """The trackers that ``track`` names, each once."""
        names = dict.fromkeys(name.strip() for name in self.track.split(","))
        return [name for name in names if name != NO_TRACKER]

    @property
    def tags(self) -> list[str]:
        """The tags that ``wandb_tags`` names, each once."""
        return [*dict.fromkeys(tag.strip() for tag in self.wandb_tags.split(",") if tag.strip())]

    def problems(self) -> list[str]:
        """Invalid settings, one message each."""
        found = at_least(self, {"wandb_timeout": 1})
        names = [*dict.fromkeys(name.strip() for name in self.track.split(","))]
        if NO_TRACKER in names and len(names) > 1:
            found.append(
                f"--track {self.track}: none cannot be combined with a tracker. Leave out the one or the other."
            )
        for name in self.trackers:
            if name not in PACKAGES:
                [*near] = difflib.get_close_matches(name, PACKAGES, 1)
                hint = f"Perhaps you meant {near[0]}? " if near else ""
                found.append(f"--track {name}: no such tracker. {hint}There are {', '.join(PACKAGES)} and none.")
            elif find_spec(PACKAGES[name]) is None:
                found.append(
                    f"--track {name}: its library is not installed. Run `pip install {PACKAGES[name]}`, or leave out "
                    f"{name}: `textgen replay RUN --track {name}` sends it a run later."
                )
        shown = {"project": self.wandb_project, "tags": self.wandb_tags, "group": self.wandb_group}
        shown |= {"notes": self.wandb_notes}
        found += [
            f"--wandb-{name} {text}: contains a password or a token, which trackers would show. Leave it out."
            for name, text in shown.items()
            if text is not None and redact(text) != text
        ]
        found += [
            f"--wandb-tags {tag}: has {len(tag)} characters; W&B takes at most {_LONGEST_TAG}. Shorten it."
            for tag in self.tags
            if len(tag) > _LONGEST_TAG
        ]
        return found
