"""Strategies as the command line names them: an entry of the table, or a sweep of its settings in brackets."""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from textgen.errors import UserError
from textgen.evaluation.decoding.strategies import STRATEGIES, Strategy


@dataclass(frozen=True)
class Range:
    """What a setting may be: whole numbers only or not, from ``low`` to ``high``; ``open_low`` leaves ``low`` out."""

    whole: bool
    low: float
    high: float = float("inf")
    open_low: bool = False

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        least = f"above {self.low:g}" if self.open_low else f"of at least {self.low:g}"
        return f"{kind} {least}" + (f" and at most {self.high:g}" if self.high < float("inf") else "")

    def holds(self, value: float) -> bool:
        above = value > self.low if self.open_low else value >= self.low
        return above and value <= self.high and value < float("inf") and (not self.whole or value == int(value))


_SHARE = Range(False, 0, 1, open_low=True)
_COUNT = Range(True, 1)
RANGES: dict[str, Range] = {
    "num_beams": _COUNT,
    "num_beam_groups": _COUNT,
    "diversity_penalty": Range(False, 0),
    "length_penalty": Range(False, float("-1e9")),
    "temperature": Range(False, 0, open_low=True),
    "top_k": _COUNT,
    "top_p": _SHARE,
    "typical_p": _SHARE,
    "epsilon_cutoff": _SHARE,
    "eta_cutoff": _SHARE,
    "min_p": Range(False, 0, 1),
    "n_sigma": Range(False, 0),
    "top_h": _SHARE,
    "tau": Range(False, 0, open_low=True),
    "eta": Range(False, 0, open_low=True),
    "penalty_alpha": Range(False, 0, 1),
    "plausibility": _SHARE,
    "amateur_temperature": Range(False, 0, open_low=True),
    "repetition_penalty": Range(False, 0, open_low=True),
    "no_repeat_ngram_size": _COUNT,
    "draft_tokens": _COUNT,
    "max_ngram": _COUNT,
}


def parse_strategies(text: str, *, amateur: bool = False) -> list[Strategy]:
    """The strategies that ``text`` names, in its order: names separated by commas, each with settings in brackets or
    without; "all" stands for the whole table.

    ``top_p[0.8,0.9]`` is two variants, over the strategy's main setting; ``top_p[0.9,temperature=0.7]`` also sets
    another. A variant is called by what was given: ``top_p[0.8]``. ``amateur`` says whether there is an amateur model;
    "all" leaves out what needs one if there is none.

    Raises UserError that lists everything wrong with the names and settings, and what there is to choose from.
    """
    items = _split(text)
    choice = f"Choose from {', '.join(STRATEGIES)}; or say all."
    if items is None:
        raise UserError(f"--strategies {text!r}: its brackets do not match; write top_p[0.9,0.95],greedy, say.")
    if items == ["all"]:
        return [strategy for strategy in STRATEGIES.values() if amateur or not strategy.needs_amateur]
    if not items:
        raise UserError(f"--strategies {text!r}: names no strategy. {choice}")
    found: list[Strategy] = []
    problems: list[str] = []
    for item in items:
        name, bracket, rest = item.partition("[")
        name = name.strip()
        if name not in STRATEGIES:
            problems.append(f"--strategies: {_unknown(name)} {choice}")
            continue
        if bracket and not rest.endswith("]"):
            problems.append(f"--strategies {item}: nothing may stand after the bracket; put a comma there.")
            continue
        variants, wrong = _variants(STRATEGIES[name], rest[:-1]) if bracket else ([STRATEGIES[name]], [])
        found += variants
        problems += [f"--strategies {item}: {problem}" for problem in wrong]
    names = [strategy.name for strategy in found]
    for name in dict.fromkeys(names):
        if names.count(name) > 1:
            problems.append(f"--strategies: {name!r} is there {names.count(name)} times; name it once.")
    problems += [
        f"--strategies {family}: it takes a second, weaker model of the same tokens; name one with --amateur, or leave "
        "the strategy out."
        for family in dict.fromkeys(strategy.family for strategy in found if strategy.needs_amateur)
        if not amateur
    ]
    if problems:
        raise UserError.of(list(dict.fromkeys(problems)))
    return found


def _split(text: str) -> list[str] | None:
    """The items between commas that stand outside brackets, without empty ones; None if brackets do not match."""
    depth, items = 0, [""]
    for character in text:
        depth += (character == "[") - (character == "]")
        if depth not in (0, 1):
            return None
        if character == "," and depth == 0:
            items.append("")
        else:
            items[-1] += character
    return None if depth else [item.strip() for item in items if item.strip()]


def _variants(strategy: Strategy, text: str) -> tuple[list[Strategy], list[str]]:
    """The variants that what stands in a strategy's brackets asks for, and what is wrong with it."""
    allowed = _settings(strategy)
    values: list[str] = []
    fixed: dict[str, str] = {}
    problems: list[str] = []
    for part in (part.strip() for part in text.split(",")):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            values.append(part)
        elif name in fixed:
            problems.append(f"{name} is set twice; set it once.")
        else:
            fixed[name] = value
    if values and strategy.main_setting is None:
        takes = f"; it takes {', '.join(f'{name}=…' for name in allowed)}" if allowed else " at all"
        return [], [f"{strategy.name} has no main setting{takes}, so leave {', '.join(values)!r} out."]
    if strategy.main_setting in fixed and values:
        problems.append(f"{strategy.main_setting} is given with its name and without; say it one way.")
    for name in fixed:
        if name not in allowed:
            problems.append(f"{strategy.name} has no setting {name!r}; it has {', '.join(allowed) or 'none'}.")
    numbers = {name: _number(name, value, problems) for name, value in fixed.items() if name in allowed}
    sweep = [_number(strategy.main_setting, value, problems) for value in values] if strategy.main_setting else []
    if problems:
        return [], problems
    given = "".join(f",{name}={value:g}" for name, value in numbers.items() if value is not None)
    made = []
    for main in sweep or [None]:
        settings = dict(strategy.settings) | {name: number for name, number in numbers.items() if number is not None}
        if main is not None:
            assert strategy.main_setting is not None
            settings[strategy.main_setting] = main
        problems += _together(settings)
        label = f"{main:g}{given}" if main is not None else given[1:]
        made.append(replace(strategy, name=f"{strategy.name}[{label}]", settings=settings))
    return made, problems


def _settings(strategy: Strategy) -> list[str]:
    """The settings that a strategy knows; one that samples token by token also has a temperature."""
    extra = ["temperature"] if strategy.is_stochastic and strategy.decoder == "tokens" else []
    return list(dict.fromkeys([*strategy.settings, *extra]))


def _number(name: str | None, text: str, problems: list[str]) -> float | int | None:
    assert name is not None
    span = RANGES[name]
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not span.holds(value):
        problems.append(f"{name} {text!r}: give {span}.")
        return None
    return int(value) if span.whole else value


def _together(settings: Mapping[str, float | int]) -> list[str]:
    """What is wrong with settings that are each right."""
    groups, beams = settings.get("num_beam_groups"), settings.get("num_beams", 0)
    if groups is not None and beams % groups:
        return [f"num_beams {beams} is not a multiple of num_beam_groups {groups}; make it one."]
    return []


def _unknown(name: str) -> str:
    if name == "all":
        return "'all' stands alone, not among other names."
    plain = re.sub(r"\W+", "_", name.lower())
    near = difflib.get_close_matches(plain, STRATEGIES, n=1)
    return f"there is no strategy {name!r}{f'; did you mean {near[0]}?' if near else '.'}"
