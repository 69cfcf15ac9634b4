"""Parser for ``--strategies``: names from the table, each optionally with settings in brackets."""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from textgen.errors import UserError
from textgen.evaluation.decoding.strategies import STRATEGIES, Strategy


@dataclass(frozen=True)
class Range:
    """Valid values of a setting: from ``low`` to ``high``, without ``low`` itself if ``exclusive``."""

    integer: bool
    low: float
    high: float = float("inf")
    exclusive: bool = False

    def __str__(self) -> str:
        kind = "an integer" if self.integer else "a number"
        least = f"above {self.low:g}" if self.exclusive else f"of at least {self.low:g}"
        return f"{kind} {least}" + (f" and at most {self.high:g}" if self.high < float("inf") else "")

    def contains(self, value: float) -> bool:
        """Whether the value is valid; NaN and infinity never are."""
        above = value > self.low if self.exclusive else value >= self.low
        return above and value <= self.high and value < float("inf") and (not self.integer or value == int(value))


_FRACTION = Range(False, 0, 1, exclusive=True)
_COUNT = Range(True, 1)
RANGES: dict[str, Range] = {
    "num_beams": _COUNT,
    "num_beam_groups": _COUNT,
    "diversity_penalty": Range(False, 0),
    "length_penalty": Range(False, float("-1e9")),
    "temperature": Range(False, 0, exclusive=True),
    "top_k": _COUNT,
    "top_p": _FRACTION,
    "typical_p": _FRACTION,
    "epsilon_cutoff": _FRACTION,
    "eta_cutoff": _FRACTION,
    "min_p": Range(False, 0, 1),
    "n_sigma": Range(False, 0),
    "top_h": _FRACTION,
    "tau": Range(False, 0, exclusive=True),
    "eta": Range(False, 0, exclusive=True),
    "penalty_alpha": Range(False, 0, 1),
    "plausibility": _FRACTION,
    "amateur_temperature": Range(False, 0, exclusive=True),
    "repetition_penalty": Range(False, 0, exclusive=True),
    "no_repeat_ngram_size": _COUNT,
    "draft_tokens": _COUNT,
    "max_ngram": _COUNT,
}


def parse_strategies(text: str, *, amateur: bool = False) -> list[Strategy]:
    """The strategies listed in ``text``, in order.

    Args:
        text: comma-separated names, optionally with settings: ``top_p[0.8,0.9]`` gives two variants that differ in the
            main setting; ``top_p[0.9,temperature=0.7]`` changes another setting too. A variant's name repeats its
            settings: ``top_p[0.8]``. ``all`` is the whole table.
        amateur: whether there is an amateur model. Without one, ``all`` omits strategies that need it.

    Raises:
        UserError: lists every invalid name and setting, and the valid ones.
    """
    items = _split(text)
    if items is None:
        raise UserError(f"--strategies {text!r}: unbalanced brackets. Example: top_p[0.9,0.95],greedy")
    if items == ["all"]:
        return [strategy for strategy in STRATEGIES.values() if amateur or not strategy.needs_amateur]
    if not items:
        raise UserError(f"--strategies {text!r}: no strategy is listed. {_choices()}")
    found: list[Strategy] = []
    problems: list[str] = []
    for item in items:
        variants, invalid = _parse_item(item)
        found += variants
        problems += invalid
    names = [strategy.name for strategy in found]
    for name in dict.fromkeys(names):
        if names.count(name) > 1:
            problems.append(f"--strategies: {name!r} is listed {names.count(name)} times. List it once.")
    problems += [
        f"--strategies {family}: requires an amateur model. Set --amateur to a weaker model with the same tokenizer, "
        "or omit the strategy."
        for family in dict.fromkeys(strategy.family for strategy in found if strategy.needs_amateur)
        if not amateur
    ]
    if problems:
        raise UserError.of(list(dict.fromkeys(problems)))
    return found


def _choices() -> str:
    return f"Choose from {', '.join(STRATEGIES)}; or use all."


def _split(text: str) -> list[str] | None:
    """The non-empty items between commas outside brackets; None if brackets are unbalanced or nested."""
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


def _parse_item(item: str) -> tuple[list[Strategy], list[str]]:
    """The strategies that one item specifies, and the problems found in it."""
    name, bracket, rest = item.partition("[")
    name = name.strip()
    if name not in STRATEGIES:
        return [], [f"--strategies: {_unknown_name(name)} {_choices()}"]
    if not bracket:
        return [STRATEGIES[name]], []
    if not rest.endswith("]"):
        return [], [f"--strategies {item}: unexpected text after the bracket. Separate strategies by commas."]
    variants, problems = _variants(STRATEGIES[name], rest[:-1])
    return variants, [f"--strategies {item}: {problem}" for problem in problems]


def _unknown_name(name: str) -> str:
    if name == "all":
        return "'all' cannot be combined with other names."
    plain = re.sub(r"\W+", "_", name.lower())
    near = difflib.get_close_matches(plain, STRATEGIES, n=1)
    return f"unknown strategy {name!r}" + (f"; did you mean {near[0]!r}?" if near else ".")


def _variants(strategy: Strategy, text: str) -> tuple[list[Strategy], list[str]]:
    """The variants that the text in a strategy's brackets specifies, and the problems found in it."""
    main, allowed = strategy.main_setting, _allowed_settings(strategy)
    sweep, named, problems = _parse_settings(text)
    if sweep and main is None:
        lacks = f"main setting. Name one: {', '.join(f'{name}=…' for name in allowed)}" if allowed else "settings"
        return [], [f"{', '.join(sweep)!r}: {strategy.name} has no {lacks}."]
    if sweep and main in named:
        problems.append(f"{main} is given both with and without its name. Give it once.")
    for name in named:
        if name not in allowed:
            problems.append(f"{strategy.name} has no setting {name!r}. Its settings: {', '.join(allowed) or 'none'}.")
    numbers = {name: _number(name, value, problems) for name, value in named.items() if name in allowed}
    main_values: list[float | int | None] = [_number(main, value, problems) for value in sweep] if main else []
    if problems:
        return [], problems
    variants = []
    for value in main_values or [None]:
        settings = dict(strategy.settings) | numbers
        label = [f"{name}={number:g}" for name, number in numbers.items()]
        if main is not None and value is not None:
            settings[main] = value
            label = [f"{value:g}", *label]
        problems += _conflicts(settings)
        variants.append(replace(strategy, name=f"{strategy.name}[{','.join(label)}]", settings=settings))
    return variants, problems


def _parse_settings(text: str) -> tuple[list[str], dict[str, str], list[str]]:
    """The values without a name, those with one, and the problems found, from the text in brackets."""
    values: list[str] = []
    named: dict[str, str] = {}
    problems: list[str] = []
    for part in (part.strip() for part in text.split(",")):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            values.append(part)
        elif name in named:
            problems.append(f"{name} is set twice. Set it once.")
        else:
            named[name] = value
    return values, named, problems


def _allowed_settings(strategy: Strategy) -> list[str]:
    """The settings that a strategy accepts; any that samples token by token also has a temperature."""
    extra = ["temperature"] if strategy.is_stochastic and strategy.decoder == "tokens" else []
    return list(dict.fromkeys([*strategy.settings, *extra]))


def _number(name: str, text: str, problems: list[str]) -> float | int:
    """The value of a setting; if it is invalid, appends to ``problems``."""
    valid = RANGES[name]
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not valid.contains(value):
        problems.append(f"{name} {text!r}: must be {valid}.")
        return value
    return int(value) if valid.integer else value


def _conflicts(settings: Mapping[str, float | int]) -> list[str]:
    """Problems of settings that are valid one by one, but not together."""
    groups, beams = settings.get("num_beam_groups"), settings.get("num_beams", 0)
    if groups is not None and beams % groups:
        return [f"num_beams {beams}: must be a multiple of num_beam_groups, which is {groups}."]
    return []
