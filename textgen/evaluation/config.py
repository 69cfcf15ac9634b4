"""Settings of an evaluation: the perplexity convention, and which strategies continue which prompts."""

from dataclasses import dataclass, replace
from typing import Literal

from textgen.config import flag
from textgen.errors import UserError
from textgen.evaluation.decoding.strategies import DEFAULT_STRATEGIES
from textgen.evaluation.decoding.strategy_parser import parse_strategies
from textgen.model.config import ModelConfig


@dataclass(frozen=True)
class EvaluationConfig:
    """Perplexity of the validation documents, and the comparison of decoding strategies on their beginnings."""

    convention: Literal["rolling", "strided"] = "rolling"
    """Perplexity convention: each document on its own (as lm-evaluation-harness), or overlapping windows over the
    joined text (as the transformers guide)."""
    stride: int | None = None
    """Tokens between two windows of the strided convention. Default: half of the model's context."""
    prompts: int = 16
    """Number of validation documents whose beginnings are prompts."""
    prompt_tokens: int = 32
    """Length of a prompt in tokens."""
    max_new_tokens: int = 64
    """Maximum length of a continuation in tokens."""
    strategies: str = DEFAULT_STRATEGIES
    """Decoding strategies to compare, comma-separated, or all. 'top_p[0.8,0.9]' sweeps a setting."""
    samples: int = 1
    """Continuations of each prompt by each strategy that samples."""
    amateur: str | None = None
    """A weaker model with the same tokenizer, specified like --model; contrastive_decoding and speculative need it."""
    judge: str | None = None
    """A second model that scores every continuation in bits per byte and provides MAUVE's features, specified like
    --model."""
    interval_width: float = 0.1
    """Target width of the 95 % interval of a difference from human, as a share of the human value; the report says how
    many prompts or samples it takes."""
    skip_decoding: bool = False
    """Measure perplexity only."""

    def problems(self) -> list[str]:
        """Invalid settings, one message each."""
        found = []
        if self.stride is not None and self.convention != "strided":
            found.append(f"--stride {self.stride}: only --convention strided has a stride. Add it, or omit --stride.")
        for name in ("stride", "prompts", "prompt_tokens", "max_new_tokens", "samples"):
            value = getattr(self, name)
            if value is not None and value < 1:
                found.append(f"{flag(name)} {value}: must be at least 1.")
        if not 0 < self.interval_width < float("inf"):
            found.append(f"--interval-width {self.interval_width}: must be a share of the human value, such as 0.1.")
        if self.judge is not None and self.skip_decoding:
            found.append(f"--judge {self.judge}: --skip-decoding leaves nothing to judge. Omit one of them.")
        if not self.skip_decoding:
            try:
                parse_strategies(self.strategies, amateur=self.amateur is not None)
            except UserError as error:
                found += error.problems
        return found

    def second_models(self, model: ModelConfig) -> dict[str, ModelConfig]:
        """The judge and the amateur, by the flag that names them, as models to load; those that are used only.

        Everything but their name is as in ``model``.
        """
        named = {"--judge": self.judge, "--amateur": None if self.skip_decoding else self.amateur}
        return {
            setting: replace(model, model=name, revision=None, from_scratch=False)
            for setting, name in named.items()
            if name is not None
        }
