"""Where a training run is: its step, the tokens it has seen, its best evaluation, and its most recent losses."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

RECENT = 64  # losses that a new one is compared with


@dataclass(frozen=True)
class TrainState:
    """The state of a run, except tensors.

    Attributes:
        step: the last completed step.
        targets: number of target tokens trained on so far.
        best_step: the step with the best evaluation so far, if any.
        best_value: that evaluation, in bits per byte.
        skipped: number of steps that were skipped in a row, up to and including this one.
        losses: the losses of the last :data:`RECENT` steps that were not skipped, oldest first.
    """

    step: int = 0
    targets: int = 0
    best_step: int | None = None
    best_value: float | None = None
    skipped: int = 0
    losses: tuple[float, ...] = ()

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> "TrainState":
        """The state that JSON has as the result of ``dataclasses.asdict``."""
        return cls(**{**saved, "losses": tuple(saved.get("losses", ()))})

    def after(self, step: int, targets: int, loss: float | None = None) -> "TrainState":
        """The state after another step, which trained on ``targets`` target tokens; a loss of None is not kept."""
        losses = self.losses if loss is None else (*self.losses, loss)[-RECENT:]
        return replace(self, step=step, targets=self.targets + targets, skipped=0, losses=losses)

    def after_skipping(self, step: int) -> "TrainState":
        """The state after a step that changed nothing."""
        return replace(self, step=step, skipped=self.skipped + 1)

    def evaluated(self, value: float) -> "TrainState":
        """The state after an evaluation of this step, in bits per byte: lower is better."""
        if self.best_value is not None and value >= self.best_value:
            return self
        return replace(self, best_step=self.step, best_value=value)

    @property
    def is_best(self) -> bool:
        """Whether this step has the best evaluation so far."""
        return self.best_step == self.step
