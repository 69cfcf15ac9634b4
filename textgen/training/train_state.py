"""Where a training run is: its step, the tokens it has seen, and its best evaluation."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class TrainState:
    """The state of a run, except tensors.

    Attributes:
        step: the last completed step.
        targets: number of target tokens trained on so far.
        best_step: the step with the best evaluation so far, if any.
        best_value: that evaluation, in bits per byte.
    """

    step: int = 0
    targets: int = 0
    best_step: int | None = None
    best_value: float | None = None

    def after(self, step: int, targets: int) -> "TrainState":
        """The state after another step, which trained on ``targets`` target tokens."""
        return replace(self, step=step, targets=self.targets + targets)

    def evaluated(self, value: float) -> "TrainState":
        """The state after an evaluation of this step, in bits per byte: lower is better."""
        if self.best_value is not None and value >= self.best_value:
            return self
        return replace(self, best_step=self.step, best_value=value)

    @property
    def is_best(self) -> bool:
        """Whether this step has the best evaluation so far."""
        return self.best_step == self.step
