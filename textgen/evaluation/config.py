"""Settings of an evaluation: the perplexity convention, and the comparison of decoding strategies."""

from dataclasses import dataclass, replace
from typing import Literal

from textgen.config import at_least
from textgen.errors import collect_problems
from textgen.evaluation.decoding.strategies import DEFAULT_STRATEGIES
from textgen.evaluation.decoding.strategy_parser import parse_strategies
from textgen.evaluation.perplexity.convention import convention_problems
from textgen.model.config import ModelConfig


@dataclass(frozen=True)
class EvaluationConfig:
    """Perplexity of the validation documents, and a comparison of decoding strategies on prompts from them."""

    convention: Literal["rolling", "strided"] = "rolling"
    """Perplexity convention: rolling scores each document separately (as lm-evaluation-harness does), strided scores
    overlapping windows of the concatenated documents (as in the transformers guide)."""
    stride: int | None = None
    """Tokens between the starts of consecutive windows, for --convention strided. Default: half of the model's
    context."""
    evaluation_tokens: int | Literal["all"] = 1_000_000
    """Amount of held-out text to score, in tokens of 4 bytes: whole documents, drawn by a hash of their texts, so that
    every run and model with the same data is measured on the same ones. all: every held-out document."""
    contamination_words: int = 13
    """A scored document is contaminated if it shares this many words in a row with a training document; figures are
    given with and without such documents. 0: do not look for them."""
    prompts: int = 16
    """Number of prompts; each is the beginning of a scored document."""
    prompt_tokens: int = 32
    """Length of a prompt in tokens."""
    max_new_tokens: int = 64
    """Maximum length of a continuation in tokens."""
    strategies: str = DEFAULT_STRATEGIES
    """Decoding strategies to compare: comma-separated names, or all. 'top_p[0.8,0.9]' sweeps a setting."""
    samples: int = 1
    """Continuations per prompt for each stochastic strategy."""
    amateur: str | None = None
    """A weaker model with the same tokenizer, specified like --model; required by contrastive_decoding and
    speculative."""
    judge: str | None = None
    """A second model, specified like --model, which scores all continuations in bits per byte and computes the features
    for MAUVE."""
    interval_width: float = 0.1
    """Target width of the 95 % interval of a strategy's difference from the human text, as a fraction of the human
    value. The report shows how many prompts or samples would reach it."""
    skip_decoding: bool = False
    """Measure perplexity only."""

    def problems(self) -> list[str]:
        """Invalid settings, one message each."""
        found = convention_problems(self.convention, self.stride)
        names = ("evaluation_tokens", "prompts", "prompt_tokens", "max_new_tokens", "samples")
        found += at_least(self, dict.fromkeys(names, 1))
        if self.contamination_words < 2 and self.contamination_words != 0:
            found.append(
                f"--contamination-words {self.contamination_words}: must be at least 2, such as 13, or 0 for no search."
            )
        if not 0 < self.interval_width < float("inf"):
            found.append(f"--interval-width {self.interval_width}: must be a positive fraction, such as 0.1.")
        if self.judge is not None and self.skip_decoding:
            found.append(f"--judge {self.judge}: with --skip-decoding there is nothing to judge. Omit one of them.")
        with collect_problems(found):
            parse_strategies(self.strategies, amateur=self.amateur is not None or self.skip_decoding)
        return found

    def second_models(self, model: ModelConfig) -> dict[str, ModelConfig]:
        """The judge and the amateur as models to load, by their flag; only those that will be used.

        ``revision`` and ``from_scratch`` have their defaults; all other settings are those of ``model``.
        """
        named = {"--judge": self.judge, "--amateur": None if self.skip_decoding else self.amateur}
        return {
            flag_name: replace(model, model=name, revision=None, from_scratch=False)
            for flag_name, name in named.items()
            if name is not None
        }
