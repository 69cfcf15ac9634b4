"""Where a training run is: its step, the tokens it has seen, its best evaluation, and its most recent losses."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
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
        metrics: what to log of that step.
        is_recorded: whether the step's evaluation and the rest of what follows it was done; else a signal interrupted
            that, and it is to be done when the run is resumed.
        skipped: number of steps that were skipped in a row, up to and including this one.
        losses: the losses of the last :data:`RECENT` steps that were not skipped, oldest first.
    """

    step: int = 0
    targets: int = 0
    best_step: int | None = None
    best_value: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    is_recorded: bool = True
    skipped: int = 0
    losses: tuple[float, ...] = ()

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> "TrainState":
        """The state that JSON has as the result of ``dataclasses.asdict``.

        Raises:
            ValueError: it has other fields, or values of other types.
        """
        try:
            state = cls(**{**saved, "losses": tuple(saved.get("losses", ()))})
            numbers = [*state.losses, *state.metrics.values(), state.best_value or 0.0]
        except (TypeError, AttributeError) as error:
            raise ValueError(str(error)) from None
        counts = (state.step, state.targets, state.skipped, state.best_step or 0)
        if not all(type(count) is int and count >= 0 for count in counts):
            raise ValueError("a count is not a whole number")
        if not all(type(number) in (int, float) for number in numbers):
            raise ValueError("a value is not a number")
        return state

    def after(
        self, step: int, targets: int, loss: float | None = None, metrics: Mapping[str, float] | None = None
    ) -> "TrainState":
        """The state after another step, which trained on ``targets`` target tokens; a loss of None is not kept."""
        losses = self.losses if loss is None else (*self.losses, loss)[-RECENT:]
        state = replace(self, step=step, targets=self.targets + targets, skipped=0, losses=losses)
        return replace(state, metrics=metrics or {}, is_recorded=False)

    def after_skipping(self, step: int, metrics: Mapping[str, float] | None = None) -> "TrainState":
        """The state after a step that changed nothing."""
        return replace(self, step=step, skipped=self.skipped + 1, metrics=metrics or {}, is_recorded=False)

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
