"""Where a training run is: its step, the tokens it has seen, and its best evaluation."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class TrainState:
    """The state of a run, except tensors.

    Attributes:
        step: the last completed step.
        targets: number of target tokens trained on so far.
        best_step: the step with the best evaluation so far, if any.
        best_value: that evaluation, in bits per byte.
        metrics: what to log of that step.
        is_recorded: whether the step's evaluation and the rest of what follows it was done; else a signal interrupted
            that, and it is to be done when the run is resumed.
    """

    step: int = 0
    targets: int = 0
    best_step: int | None = None
    best_value: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    is_recorded: bool = True

    def after(self, step: int, targets: int, metrics: Mapping[str, float]) -> "TrainState":
        """The state after another step, which trained on ``targets`` target tokens; they are added to its metrics."""
        total = self.targets + targets
        metrics = {**metrics, "train/tokens": total}
        return replace(self, step=step, targets=total, metrics=metrics, is_recorded=False)

    def recorded(self) -> "TrainState":
        """The state once everything that follows the step is done, but for saving it."""
        return replace(self, is_recorded=True)

    @property
    def first_step(self) -> int:
        """The first step of which something is left to do."""
        return self.step + 1 if self.is_recorded else self.step

    def evaluated(self, value: float) -> "TrainState":
        """The state after an evaluation of this step, in bits per byte: lower is better."""
        if self.best_value is not None and value >= self.best_value:
            return self
        return replace(self, best_step=self.step, best_value=value)

    @property
    def is_best(self) -> bool:
        """Whether this step has the best evaluation so far."""
        return self.best_step == self.step
