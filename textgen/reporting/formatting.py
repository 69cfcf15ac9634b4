"""Numbers and intervals as they are shown in the report, the model card and on the console."""

import sys
from collections.abc import Sequence
from typing import Any

MISSING = "–"


def finite(value: Any) -> float | None:
    """The value if it is a finite number, otherwise None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if -sys.float_info.max <= value <= sys.float_info.max else None  # an integer may be any size


def number(value: Any, digits: int = 2) -> str:
    """A number for display: ``1,234.50``, ``−0.51``, ``3.46e+33`` from 10¹² on; a dash if missing or not finite."""
    if finite(value) is None:
        return MISSING
    text = f"{value:,.{digits}f}" if abs(value) < 1e12 else f"{value:.2e}"
    if text.startswith("-"):
        text = text[1:] if not text.strip("-0.,") else "−" + text[1:]  # no minus sign before a rounded zero
    return text


def count(value: Any) -> str:
    """An integer with thousands separators, or a dash."""
    return number(value, 0)


def part_of(part: Any, whole: Any) -> str:
    """``1,812 of 7,943``, or only the first number if it is all of them or their number is unknown."""
    return count(part) if finite(whole) is None or part == whole else f"{count(part)} of {count(whole)}"


def bounds(interval: Any) -> tuple[float, float] | None:
    """The two ends of an interval, or None unless both are finite numbers."""
    if not isinstance(interval, Sequence) or isinstance(interval, str) or len(interval) != 2:
        return None
    low, high = finite(interval[0]), finite(interval[1])
    return None if low is None or high is None else (low, high)


def interval_text(interval: Any, digits: int = 2) -> str:
    """``0.91–0.95``, or ``−0.55 to −0.47`` where a dash could be read as a minus sign; empty if missing."""
    ends = bounds(interval)
    if ends is None:
        return ""
    low, high = (number(end, digits) for end in ends)
    return f"{low} to {high}" if "−" in low + high else f"{low}–{high}"
