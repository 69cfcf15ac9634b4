"""The table of decoding strategies. Imports nothing heavy, so that the command line can check names against it."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from textgen.errors import UserError


@dataclass(frozen=True)
class Strategy:
    """A named way to decode, with its settings in the words of transformers' ``GenerationConfig``."""

    name: str
    settings: Mapping[str, float | int]
    samples: bool  # whether it draws; if not, a prompt has one continuation however often it is asked for
    description: str
    source: str


# A strategy is added here; `sampling.truncation` knows the settings of those that sample.
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
        ),
        Strategy(
            "temperature",
            {"temperature": 0.8},
            True,
            "sample from the whole vocabulary, sharpened by a temperature below 1",
            "Ackley, Hinton & Sejnowski 1985",
        ),
        Strategy("top_k", {"top_k": 40}, True, "sample from the k most probable tokens", "arXiv 1805.04833"),
        Strategy(
            "top_p",
            {"top_p": 0.95},
            True,
            "sample from the nucleus: the fewest tokens that hold a share p of the probability",
            "arXiv 1904.09751",
        ),
        Strategy(
            "typical",
            {"typical_p": 0.95},
            True,
            "sample from the tokens whose surprise is nearest to the expected one",
            "arXiv 2202.00666",
        ),
        Strategy(
            "min_p",
            {"min_p": 0.05},
            True,
            "sample from the tokens at least a share min_p as probable as the most probable one",
            "arXiv 2407.01082",
        ),
        Strategy(
            "eta",
            {"eta_cutoff": 3e-4},  # the smallest of the values in use, 3e-4 to 2e-3; larger ones truncate more
            True,
            "sample from the tokens above a threshold that sinks as the entropy rises",
            "arXiv 2210.15191",
        ),
        Strategy(
            "contrastive",
            {"top_k": 4, "penalty_alpha": 0.6},
            False,
            "the probable token that resembles the text so far least",
            "arXiv 2202.06417",
        ),
        Strategy(
            "repetition_penalty",
            {"repetition_penalty": 1.2},
            False,
            "greedy, with tokens of the prompt and the continuation so far made less probable",
            "arXiv 1909.05858",
        ),
    )
}


def parse_strategies(text: str) -> list[Strategy]:
    """Strategies named in ``text``: "all" for the whole table, or names separated by commas, in the order given.

    Raises UserError that lists every unknown and every repeated name, and what there is to choose from.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if names == ["all"]:
        return list(STRATEGIES.values())
    choice = f"Choose from {', '.join(STRATEGIES)}; or say all."
    if not names:
        raise UserError(f"--strategies {text!r}: names no strategy. {choice}")
    problems = [
        f"--strategies: {_unknown(name)} {choice}" for name in dict.fromkeys(names) if name not in STRATEGIES
    ] + [
        f"--strategies: {name!r} is there {names.count(name)} times; name it once."
        for name in dict.fromkeys(names)
        if names.count(name) > 1
    ]
    if problems:
        raise UserError.of(problems)
    return [STRATEGIES[name] for name in names]


def _unknown(name: str) -> str:
    if name == "all":
        return "'all' stands alone, not among other names."
    near = difflib.get_close_matches(name.lower().replace("-", "_"), STRATEGIES, n=1)
    return f"there is no strategy {name!r}{f'; did you mean {near[0]}?' if near else '.'}"
