"""The errors that end a run, each with its exit code."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from textgen.terminal import shown


class UserError(ValueError):
    """Invalid input or configuration. The message says what was given, what is wrong with it, and what to do.

    The message is printed and kept in files, so it gets no secrets and no control characters (:func:`shown`).

    Attributes:
        problems: its messages; several if it was created by :meth:`of`.
    """

    exit_code = 2

    def __init__(self, message: str) -> None:
        super().__init__(shown(message))
        self.problems = [str(self)]

    @classmethod
    def of(cls, problems: Sequence[str]) -> "UserError":
        """One error that lists every problem, so that all of them can be fixed at once."""
        assert problems, "an error without a problem"
        problems = [shown(problem) for problem in problems]
        lines = "".join(f"\n- {problem}" for problem in problems)
        error = cls(problems[0] if len(problems) == 1 else f"{len(problems)} problems:{lines}")
        error.problems = list(problems)
        return error


@contextmanager
def collect_problems(problems: list[str]) -> Iterator[None]:
    """Run a check; if it raises a :class:`UserError`, append the messages to ``problems`` and continue."""
    try:
        yield
    except UserError as error:
        problems += error.problems


def first_line(error: BaseException) -> str:
    """The first line of a library's error message, to be quoted in one of ours; its type if it has no message."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


class Diverged(RuntimeError):
    """Training diverged: its numbers are not finite any more. Continuing would only overwrite good checkpoints."""

    exit_code = 3


class Preempted(RuntimeError):
    """The process was told to end, by a signal for example, and may: running the same command again goes on.

    Args:
        reason: what told it, such as "SIGTERM".
        saved: the step after which training was saved; None if the end came outside of training.

    Attributes:
        saved: as above.
    """

    exit_code = 75

    def __init__(self, reason: str, saved: int | None = None) -> None:
        where = "" if saved is None else f" after step {saved}, which is saved"
        super().__init__(f"stopped by {reason}{where}: run the same command again to go on")
        self.saved = saved
