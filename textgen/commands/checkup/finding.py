"""What a check found, and what mends it."""

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "note", "fault"]


@dataclass(frozen=True)
class Finding:
    """One thing that a check found.

    Attributes:
        state: "ok"; "note": runs work, but slower, or without something; "fault": some runs would fail.
        text: what is the case.
        mend: what to do about it; empty if there is nothing to do.
    """

    state: State
    text: str
    mend: str = ""

    def __post_init__(self) -> None:
        assert self.state != "fault" or self.mend, "a fault without a mend"
