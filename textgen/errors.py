"""The ways a run can end other than well, each with the exit code that a script can act on."""

from collections.abc import Sequence


class UserError(ValueError):
    """Something the user can mend: says what was given, what is wrong with it and what to do."""

    exit_code = 2

    @classmethod
    def of(cls, problems: Sequence[str]) -> "UserError":
        """One error that lists every problem, so that they can be mended in one go."""
        assert problems, "an error without a problem"
        return cls(problems[0] if len(problems) == 1 else "\n".join(f"- {problem}" for problem in problems))


class Diverged(RuntimeError):
    """Training left the finite numbers: going on would only overwrite a good checkpoint with a bad one."""

    exit_code = 3
