"""Where the time of a run went since its last logged row: into steps, evaluations, or saving and sampling."""

import time
from typing import Any


class StepClock:
    """Adds up the time of training steps, and of what is between them.

    After a step there may be an evaluation, then comes its row; after the row, there may be samples and a checkpoint,
    then the next step. So what is between a step and its row is evaluation, and what is before a step is saving. What
    this process does before its first step is neither.

    Attributes:
        seconds: in steps, since the last row.
    """

    def __init__(self) -> None:
        self._since: float | None = None  # the end of the last step or row; None before the first step
        self._restart()

    def _restart(self) -> None:
        self.seconds = 0.0
        self._evaluation = self._saving = 0.0
        self._steps = self._targets = 0

    @property
    def speed(self) -> float:
        """Tokens per second; 0 if a resumed run has not trained yet, but evaluates the step that it resumed from."""
        return self._targets / self.seconds if self.seconds else 0.0

    def add_step(self, seconds: float, targets: int) -> None:
        """A step has ended that took so long and trained on so many target tokens."""
        now = time.monotonic()
        if self._since is not None:
            self._saving += max(now - seconds - self._since, 0.0)
        self.seconds += seconds
        self._targets += targets
        self._steps += 1
        self._since = now

    def row(self) -> dict[str, Any]:
        """What ``timing.jsonl`` says of the time since the last row; from now on, the next one is timed."""
        now = time.monotonic()
        if self._since is not None:
            self._evaluation += now - self._since
            self._since = now
        row = {"seconds": self.seconds, "tokens_per_second": self.speed, "steps": self._steps}
        row |= {"evaluation_seconds": self._evaluation, "saving_seconds": self._saving}
        self._restart()
        return row
