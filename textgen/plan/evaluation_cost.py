"""What perplexity will cost in a run, for the dry run: tokens to score, and their time relative to training."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from textgen.data.config import DataConfig
from textgen.data.sources import DataSources, Source
from textgen.data.sources.bundled import find_bundled
from textgen.evaluation.draw_documents import BYTES_PER_TOKEN, Budget

FORWARD_SHARE = 1 / 3
"""Time of scoring a token relative to training on it: a forward pass is about a third of a training step."""

_MAX_BUNDLED_TEXTS = 1000  # reading a larger bundled corpus, such as docstrings, takes minutes


@dataclass(frozen=True)
class EvaluationCost:
    """The text that a run scores; amounts are in tokens of :data:`BYTES_PER_TOKEN` bytes.

    Attributes:
        budget: what to score before and after training (``--evaluation-tokens``).
        training_budget: what to score in each evaluation during training.
        available: held-out tokens; None if not known.
        retained: tokens of ``--retain-data``; 0 without it, None if not known.
        every: steps from one evaluation to the next; 0 for none during training.
        step_tokens: tokens trained on in a step.
        steps: number of steps; None if not known.
    """

    budget: Budget
    training_budget: Budget
    available: float | None
    every: int
    step_tokens: int
    steps: float | None
    retained: float | None = 0

    def __str__(self) -> str:
        parts = [f"{self._amount(self.budget, self.available)} of held-out text before and after training"]
        if self.retained != 0:
            parts[0] += f", and {self._amount(self.budget, self.retained)} of the text to retain"
        if self.every:
            parts.append(f"{self._amount(self.training_budget, self.available)} every {self.every} steps")
        share = self.share_of_training()
        if share is not None:
            parts.append(f"in all about {100 * share:,.0f} % of the time of training")
        return "; ".join(parts)

    def _amount(self, budget: Budget, available: float | None) -> str:
        tokens = _scored(budget, available)
        if tokens is None:
            return "all"
        steps = tokens * FORWARD_SHARE / self.step_tokens
        known = "up to" if available is None else "about"
        return f"{known} {tokens:,.0f} tokens (the time of {steps:,.{1 if steps < 10 else 0}f} training steps)"

    def share_of_training(self) -> float | None:
        """Time of all evaluations divided by that of training; None if an amount is not known."""
        if self.available is None or self.retained is None or self.steps is None:
            return None
        evaluations = max(1.0, self.steps / self.every) if self.every else 1  # the last step is always evaluated
        tokens = 2 * ((_scored(self.budget, self.available) or 0) + (_scored(self.budget, self.retained) or 0))
        tokens += evaluations * (_scored(self.training_budget, self.available) or 0)
        return tokens * FORWARD_SHARE / (self.steps * self.step_tokens)


def _scored(budget: Budget, available: float | None) -> float | None:
    """Tokens of a text that are scored; None if not known."""
    if budget == "all":
        return available
    return budget if available is None else min(budget, available)


def retained_tokens(sources: DataSources) -> float | None:
    """Tokens of the text to retain, from the sizes of the sources; 0 without one, None if these are not known."""
    return 0 if sources.retained is None else _size(sources.retained)


def text_tokens(data: DataConfig, sources: DataSources) -> tuple[float | None, float | None]:
    """Tokens of training and of held-out text, from the sizes of the sources; None if these are not known."""
    train = _size(sources.train)
    if sources.held_out is not None:
        return train, _size(sources.held_out)
    if train is None:
        return None, None
    return (1 - data.validation_fraction) * train, data.validation_fraction * train


def _size(sources: Sequence[Source]) -> float | None:
    sizes = [_bytes(source) for source in sources]
    known = [size for size in sizes if size is not None]
    return sum(known) / BYTES_PER_TOKEN if len(known) == len(sizes) else None


def _bytes(source: Source) -> int | None:
    if source.kind == "bundled":
        bundled = find_bundled(source.location)
        assert bundled, "find_sources found it"
        rows = list(islice(bundled.texts(), _MAX_BUNDLED_TEXTS + 1))
        texts = (text for row in rows for text in ([row] if isinstance(row, str) else row.values()))
        return sum(len(text.encode()) for text in texts) if len(rows) <= _MAX_BUNDLED_TEXTS else None
    path = Path(source.location)
    # About: a table may have other columns, or be compressed.
    return path.stat().st_size if path.is_file() else None
