"""Parsing ``--data a.jsonl:0.7,b/:0.3``: parts with weights."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from textgen.errors import UserError
from textgen.redaction import redact

PERIOD = 1000
"""Blocks among which every part has exactly its share, up to rounding; so the smallest share is about 1 / PERIOD."""

_LONGEST_NAME = 80  # characters
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_WEIGHTED = re.compile(rf"(.+):({_NUMBER})")


@dataclass(frozen=True)
class WeightedPart:
    """What one part of a mixture names, and its share of the blocks that are trained on; all shares add up to 1."""

    data: str
    weight: float

    def __str__(self) -> str:
        return f"{self.weight:.1%} {self.data}"


def parse_mixture(data: str, *, setting: str = "--data") -> tuple[WeightedPart, ...]:
    """The parts of a mixture with their normalized weights; none if ``data`` names a single source.

    A mixture is two parts or more, separated by commas, each with a weight after a colon. A comma is part of a name
    unless a weight precedes it. What exists as a path is a path.

    Args:
        data: the value of ``--data``.
        setting: the flag that it comes from, for error messages.

    Raises:
        UserError: a part has no weight or one that is not positive, its share is too small, or it is named twice.
    """
    pieces = re.split(rf"(:{_NUMBER}),", data)
    if len(pieces) < 3 or _exists(data):
        return ()
    texts = ["".join(pieces[i : i + 2]) for i in range(0, len(pieces), 2)]
    found = [_WEIGHTED.fullmatch(text) for text in texts]
    if without := [text for text, match in zip(texts, found, strict=True) if not match]:
        raise UserError(
            f"{setting} {data}: {', '.join(map(repr, without))} is not a name with a weight. Give every part one, as "
            "in a.jsonl:0.7,b/:0.3."
        )
    names, weights = zip(*((match[1], float(match[2])) for match in found if match), strict=True)
    problems = [
        f"{setting} {name}:{weight:g}: a weight must be a positive number."
        for name, weight in zip(names, weights, strict=True)
        if not 0 < weight < float("inf")
    ]
    problems += [
        f"{setting} {name}: named {number} times. Name it once, with the sum of its weights."
        for name, number in Counter(name.rstrip("/") for name in names).items()
        if number > 1
    ]
    if problems:
        raise UserError.of(problems)
    parts = tuple(WeightedPart(name, weight / sum(weights)) for name, weight in zip(names, weights, strict=True))
    small = [str(p.data) for p, n in zip(parts, period_counts([p.weight for p in parts]), strict=True) if not n]
    if small:
        raise UserError(
            f"{setting} {data}: the share of {', '.join(small)} is less than 1 block in {PERIOD:,}, so it would never "
            "be trained on. Increase its weight or omit it."
        )
    return parts


def period_counts(weights: Sequence[float]) -> tuple[int, ...]:
    """How many of ``PERIOD`` blocks come from each part: shares rounded so that they add up, by largest remainder.

    Args:
        weights: shares that add up to 1.
    """
    exact = [weight * PERIOD for weight in weights]
    counts = [int(share) for share in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: (counts[i] - exact[i], i))
    for index in by_remainder[: PERIOD - sum(counts)]:
        counts[index] += 1
    return tuple(counts)


def data_name(data: str) -> str:
    """A short name of what ``--data`` names, such as ``plays`` for ``texts/plays.txt``, for the name of a directory.

    It contains no secret, and of a URL not the part after the path.
    """
    data = redact(data)
    try:
        parts = [part.data for part in parse_mixture(data)]
    except UserError:  # which is reported when the data is looked for
        parts = []
    return "+".join(map(_stem, parts))[:_LONGEST_NAME] if parts else _stem(data)


def _stem(name: str) -> str:
    return Path(re.split(r"[?#]", name)[0] if "://" in name else name).stem


def _exists(data: str) -> bool:
    try:
        return Path(data).expanduser().exists()
    except (OSError, RuntimeError, ValueError):  # such as a name that is too long
        return False
