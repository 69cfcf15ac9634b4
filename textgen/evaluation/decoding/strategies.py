"""The table of decoding strategies. Imports nothing heavy, so that the command line can check names against it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Strategy:
    """A named way to decode.

    Attributes:
        name: what rows and flags call it: an entry of the table, or a variant such as ``top_p[0.9]``.
        settings: in the words of transformers' ``GenerationConfig`` where it has them.
        is_stochastic: whether it draws random numbers; if not, a prompt has only one continuation.
        description: one line.
        source: where it was published.
        family: the entry of the table that it is, or is a variant of.
        main_setting: the setting that a sweep varies, if there is one.
        decoder: what runs it (``dispatch.DECODERS``): ``tokens`` chooses one token after another by a rule, together
            with other strategies of that kind; the rest run a search of their own.
        needs_amateur: whether it needs a second, weaker model.
    """

    name: str
    settings: Mapping[str, float | int]
    is_stochastic: bool
    description: str
    source: str
    family: str = field(default="")
    main_setting: str | None = None
    decoder: Literal["tokens", "dola", "contrastive_decoding", "beams", "contrastive_search", "speculation"] = "tokens"
    needs_amateur: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "family", self.family or self.name)


# A strategy is added here. One that chooses token by token also needs its rule: a truncation in
# `truncation.TRUNCATIONS`, or another way to choose in `next_token.RULES`.
STRATEGIES: dict[str, Strategy] = {
    strategy.name: strategy
    for strategy in (
        Strategy("greedy", {}, False, "always the most probable token", "folklore"),
        Strategy(
            "beam",
            # Without a length penalty, the score is the text's probability and nothing else.
            {"num_beams": 4, "length_penalty": 0.0},
            False,
            "the most probable text found while keeping several beginnings open",
            "Lowerre 1976; Graves, arXiv 1211.3711",
            main_setting="num_beams",
            decoder="beams",
        ),
        Strategy(
            "diverse_beam",
            {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5, "length_penalty": 0.0},
            False,
            "beam search in groups, each kept from the tokens that earlier groups took at the same place",
            "arXiv 1610.02424",
            main_setting="diversity_penalty",
            decoder="beams",
        ),
        Strategy(
            "beam_sampling",
            {"num_beams": 4, "temperature": 1.0, "length_penalty": 0.0},
            True,
            "beam search whose continuations are drawn without replacement instead of being the most probable",
            "arXiv 1903.06059 draws them so; the step is that of transformers' beam search with do_sample",
            main_setting="num_beams",
            decoder="beams",
        ),
        Strategy(
            "temperature",
            {"temperature": 0.8},
            True,
            "sample from the whole vocabulary, sharpened by a temperature below 1",
            "Ackley, Hinton & Sejnowski 1985",
            main_setting="temperature",
        ),
        Strategy(
            "top_k",
            {"top_k": 40},
            True,
            "sample from the k most probable tokens",
            "arXiv 1805.04833",
            main_setting="top_k",
        ),
        Strategy(
            "top_p",
            {"top_p": 0.95},
            True,
            "sample from the nucleus: the fewest tokens that hold a share p of the probability",
            "arXiv 1904.09751",
            main_setting="top_p",
        ),
        Strategy(
            "typical",
            {"typical_p": 0.95},
            True,
            "sample from the tokens whose surprise is nearest to the expected one",
            "arXiv 2202.00666",
            main_setting="typical_p",
        ),
        Strategy(
            "epsilon",
            {"epsilon_cutoff": 6e-4},
            True,
            "sample from the tokens with at least a fixed probability",
            "arXiv 2210.15191",
            main_setting="epsilon_cutoff",
        ),
        Strategy(
            "eta",
            {"eta_cutoff": 3e-4},  # the smallest of the values in use, 3e-4 to 2e-3; larger ones truncate more
            True,
            "sample from the tokens above a threshold that sinks as the entropy rises",
            "arXiv 2210.15191",
            main_setting="eta_cutoff",
        ),
        Strategy(
            "min_p",
            {"min_p": 0.05},
            True,
            "sample from the tokens at least a share min_p as probable as the most probable one",
            "arXiv 2407.01082",
            main_setting="min_p",
        ),
        Strategy(
            "top_n_sigma",
            {"n_sigma": 1.0},
            True,
            "sample from the tokens whose logit is within n standard deviations of the highest",
            "arXiv 2411.07641",
            main_setting="n_sigma",
        ),
        Strategy(
            "top_h",
            {"top_h": 0.4},
            True,
            "sample from as many of the most probable tokens as keep the entropy within a share of the whole",
            "arXiv 2509.02510, algorithm 1",
            main_setting="top_h",
        ),
        Strategy(
            "p_less",
            {},
            True,
            "sample from the tokens at least as probable as two draws are to agree",
            "arXiv 2509.23234",
        ),
        Strategy(
            "mirostat",
            {"tau": 5.0, "eta": 0.1},
            True,
            "sample from the tokens under a bound on surprise that steers the mean surprise to tau bits",
            "arXiv 2007.14966, version 2 as in llama.cpp",
            main_setting="tau",
        ),
        Strategy(
            "contrastive",
            {"top_k": 4, "penalty_alpha": 0.6},
            False,
            "the probable token that resembles the text so far least",
            "arXiv 2202.06417",
            main_setting="penalty_alpha",
            decoder="contrastive_search",
        ),
        Strategy(
            "contrastive_decoding",
            {"plausibility": 0.1, "amateur_temperature": 0.5},
            False,
            "greedy on how much more probable the model finds a plausible token than the amateur does",
            "arXiv 2210.15097, which searches with beams",
            main_setting="plausibility",
            decoder="contrastive_decoding",
            needs_amateur=True,
        ),
        Strategy(
            "dola",
            {"plausibility": 0.1, "repetition_penalty": 1.2},
            False,
            "greedy on how much the last layer raises a plausible token over the earlier layer that differs most",
            "arXiv 2309.03883",
            main_setting="plausibility",
            decoder="dola",
        ),
        Strategy(
            "repetition_penalty",
            {"repetition_penalty": 1.2},
            False,
            "greedy, with tokens of the prompt and the continuation so far made less probable",
            "arXiv 1909.05858",
            main_setting="repetition_penalty",
        ),
        Strategy(
            "no_repeat_ngram",
            {"no_repeat_ngram_size": 3},
            False,
            "greedy, never repeating a run of n tokens of the prompt and the continuation",
            "arXiv 1705.04304",
            main_setting="no_repeat_ngram_size",
        ),
        Strategy(
            "prompt_lookup",
            {"draft_tokens": 10, "max_ngram": 3},
            False,
            "greedy, faster: what followed the last tokens before is proposed, and read in one pass",
            "Saxena 2023, github.com/apoorvumang/prompt-lookup-decoding",
            main_setting="draft_tokens",
            decoder="speculation",
        ),
        Strategy(
            "speculative",
            {"draft_tokens": 4, "temperature": 0.8},
            True,
            "the temperature strategy, faster: the amateur proposes tokens, and the model reads them in one pass",
            "arXiv 2211.17192; coupled by shared Gumbel noise, arXiv 2408.07978",
            main_setting="draft_tokens",
            decoder="speculation",
            needs_amateur=True,
        ),
    )
}

# What is compared unless others are named: those in common use, and one of each kind.
DEFAULT_STRATEGIES = (
    "greedy,beam,temperature,top_k,top_p,typical,min_p,eta,contrastive,repetition_penalty"  # in the table's order
)

HUMAN = Strategy("human", {}, False, "the text that really followed the prompt", "the documents")
"""The reference that all strategies are compared with: a row of the same table, but nothing that can be asked for."""
