"""The table of decoding strategies. Imports nothing heavy, so that the command line can validate names quickly."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Decoder = Literal["tokens", "dola", "contrastive_decoding", "beam_search", "contrastive_search", "speculative"]


@dataclass(frozen=True)
class Strategy:
    """A named way to decode.

    Attributes:
        name: used in flags and results: an entry of the table, or a variant such as ``top_p[0.9]``.
        settings: name → value; names are those of transformers' ``GenerationConfig`` where it has the same setting.
        is_stochastic: whether it uses random numbers; if not, each prompt has only one continuation.
        description: what it does, in one line.
        source: the publication that introduced it.
        family: name of the table entry that this strategy is, or is a variant of.
        main_setting: the setting that a sweep varies; None if there is none.
        decoder: the function that runs it (``dispatch.DECODERS``). Those called ``tokens``, ``dola`` and
            ``contrastive_decoding`` choose token by token; the others are searches.
        needs_amateur: whether it needs a second, weaker model.
    """

    name: str
    settings: Mapping[str, float | int]
    is_stochastic: bool
    description: str
    source: str
    family: str = field(default="")
    main_setting: str | None = None
    decoder: Decoder = "tokens"
    needs_amateur: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "family", self.family or self.name)


# Add new strategies here. One that chooses token by token also needs a rule: a truncation in `truncation.TRUNCATIONS`,
# or any other rule in `next_token.RULES`.
STRATEGIES: dict[str, Strategy] = {
    strategy.name: strategy
    for strategy in (
        Strategy("greedy", {}, False, "always pick the most probable token", "folklore"),
        Strategy(
            "beam",
            # Without a length penalty, the score is the log-probability of the text.
            {"num_beams": 4, "length_penalty": 0.0},
            False,
            "the most probable text found by extending several candidates in parallel",
            "Lowerre 1976; Graves, arXiv 1211.3711",
            main_setting="num_beams",
            decoder="beam_search",
        ),
        Strategy(
            "diverse_beam",
            {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5, "length_penalty": 0.0},
            False,
            "beam search in groups, each penalized for tokens that earlier groups chose at the same position",
            "arXiv 1610.02424",
            main_setting="diversity_penalty",
            decoder="beam_search",
        ),
        Strategy(
            "beam_sampling",
            {"num_beams": 4, "temperature": 1.0, "length_penalty": 0.0},
            True,
            "beam search that samples its candidates without replacement instead of taking the most probable",
            "arXiv 1903.06059 for sampling without replacement; steps as in transformers' beam search with do_sample",
            main_setting="num_beams",
            decoder="beam_search",
        ),
        Strategy(
            "temperature",
            {"temperature": 0.8},
            True,
            "sample from the whole vocabulary; a temperature below 1 sharpens the distribution",
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
            "sample from the nucleus: the fewest tokens with a total probability of at least p",
            "arXiv 1904.09751",
            main_setting="top_p",
        ),
        Strategy(
            "typical",
            {"typical_p": 0.95},
            True,
            "sample from the fewest tokens with surprisal closest to the entropy that reach probability typical_p",
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
            {"eta_cutoff": 3e-4},  # the smallest of the common values, 3e-4 to 2e-3; larger values truncate more
            True,
            "sample from the tokens above a probability threshold that falls as the entropy rises",
            "arXiv 2210.15191",
            main_setting="eta_cutoff",
        ),
        Strategy(
            "min_p",
            {"min_p": 0.05},
            True,
            "sample from the tokens at least min_p times as probable as the most probable one",
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
            "sample from the most probable tokens, as many as keep the entropy within a fraction top_h of the full one",
            "arXiv 2509.02510, algorithm 1",
            main_setting="top_h",
        ),
        Strategy(
            "p_less",
            {},
            True,
            "sample from the tokens at least as probable as two independent draws being equal: p ≥ Σ p²",
            "arXiv 2509.23234",
        ),
        Strategy(
            "mirostat",
            {"tau": 5.0, "eta": 0.1},
            True,
            "sample from the tokens below a surprisal limit that is adjusted to keep the mean surprisal near tau bits",
            "arXiv 2007.14966, version 2 as in llama.cpp",
            main_setting="tau",
        ),
        Strategy(
            "contrastive",
            {"top_k": 4, "penalty_alpha": 0.6},
            False,
            "pick among the k most probable tokens, trading probability against similarity to the text so far",
            "arXiv 2202.06417",
            main_setting="penalty_alpha",
            decoder="contrastive_search",
        ),
        Strategy(
            "contrastive_decoding",
            {"plausibility": 0.1, "amateur_temperature": 0.5},
            False,
            "greedy on the log-probability of plausible tokens minus that under the amateur model",
            "arXiv 2210.15097, which uses beam search",
            main_setting="plausibility",
            decoder="contrastive_decoding",
            needs_amateur=True,
        ),
        Strategy(
            "dola",
            {"plausibility": 0.1, "repetition_penalty": 1.2},
            False,
            "greedy on the log-probability of plausible tokens minus that under the earlier layer that differs most",
            "arXiv 2309.03883",
            main_setting="plausibility",
            decoder="dola",
        ),
        Strategy(
            "repetition_penalty",
            {"repetition_penalty": 1.2},
            False,
            "greedy, with tokens already in the prompt or the continuation made less probable",
            "arXiv 1909.05858",
            main_setting="repetition_penalty",
        ),
        Strategy(
            "no_repeat_ngram",
            {"no_repeat_ngram_size": 3},
            False,
            "greedy, never repeating an n-gram of the prompt or the continuation",
            "arXiv 1705.04304",
            main_setting="no_repeat_ngram_size",
        ),
        Strategy(
            "prompt_lookup",
            {"draft_tokens": 10, "max_ngram": 3},
            False,
            "greedy, faster: proposes what followed the last n-gram earlier in the text, and verifies it in one pass",
            "Saxena 2023, github.com/apoorvumang/prompt-lookup-decoding",
            main_setting="draft_tokens",
            decoder="speculative",
        ),
        Strategy(
            "speculative",
            {"draft_tokens": 4, "temperature": 0.8},
            True,
            "temperature, faster: the amateur model proposes tokens, and the model verifies them in one pass",
            "arXiv 2211.17192; coupled by shared Gumbel noise, arXiv 2408.07978",
            main_setting="draft_tokens",
            decoder="speculative",
            needs_amateur=True,
        ),
    )
}

# The strategies in common use, and one of each kind.
DEFAULT_STRATEGIES = "greedy,beam,temperature,top_k,top_p,typical,min_p,eta,contrastive,repetition_penalty"

# The reference that every strategy is compared with. It is a row of the results, but not a choice of `--strategies`.
HUMAN = Strategy("human", {}, False, "the text that actually followed the prompt", "the documents")
