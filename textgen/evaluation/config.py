"""What to measure, and how."""

from dataclasses import dataclass
from typing import Literal

from textgen.evaluation.decoding.strategies import DEFAULT_STRATEGIES


@dataclass(frozen=True)
class EvaluationConfig:
    """Perplexity of the validation documents, and the comparison of decoding strategies on their beginnings."""

    convention: Literal["rolling", "strided"] = "rolling"
    """How perplexity is defined: per document as in lm-evaluation-harness, or windows over the joined text."""
    stride: int | None = None
    """Tokens between two windows of the strided convention; half of the model's context if not given."""
    prompts: int = 16
    """How many validation documents are continued by every strategy."""
    prompt_tokens: int = 32
    """Length of a prompt: the first tokens of a validation document."""
    max_new_tokens: int = 64
    """Length of a continuation, unless the model ends the text earlier."""
    strategies: str = DEFAULT_STRATEGIES
    """Decoding strategies to compare, separated by commas, or all; 'top_p[0.8,0.9]' sweeps a setting."""
    samples: int = 1
    """Continuations of each prompt by each strategy that samples."""
    amateur: str | None = None
    """A second, weaker model of the same tokens, named like --model: contrastive_decoding and speculative take it."""
    judge: str | None = None
    """A second model that scores every continuation, in bits per byte, and gives MAUVE its features; named like
    --model."""
    interval_width: float = 0.1
    """How wide the 95 % interval of a difference from human should be, as a share of the human value: the prompts and
    samples that it takes are suggested."""
    skip_decoding: bool = False
    """Measure perplexity only."""

    def problems(self) -> list[str]:
        """What is wrong with these settings by themselves, one remedy each."""
        found = []
        if self.stride is not None and self.convention != "strided":
            found.append(f"--stride {self.stride}: only --convention strided has a stride; add it or leave this out.")
        for name in ("stride", "prompts", "prompt_tokens", "max_new_tokens", "samples"):
            value = getattr(self, name)
            if value is not None and value < 1:
                found.append(f"--{name.replace('_', '-')} {value}: give at least 1.")
        if not 0 < self.interval_width < float("inf"):
            found.append(f"--interval-width {self.interval_width}: give a share of the human value, such as 0.1.")
        if self.judge is not None and self.skip_decoding:
            found.append(
                f"--judge {self.judge}: with --skip-decoding there is nothing to judge; leave one of them out."
            )
        return found
