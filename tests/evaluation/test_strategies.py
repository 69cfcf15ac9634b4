"""The table of strategies, and how its names are read from the command line."""

import json
import subprocess
import sys

import pytest

from textgen.errors import UserError
from textgen.evaluation.strategies import STRATEGIES, parse_strategies

SAMPLING = ["temperature", "top_k", "top_p", "typical", "min_p", "eta"]
NAMES = ["greedy", "beam", *SAMPLING, "contrastive", "repetition_penalty"]


def test_the_table_holds_these_strategies() -> None:
    assert list(STRATEGIES) == NAMES
    assert {name for name, strategy in STRATEGIES.items() if strategy.samples} == set(SAMPLING)
    for name, strategy in STRATEGIES.items():
        assert strategy.name == name
        assert strategy.source
        assert strategy.description
        assert "\n" not in strategy.description
        assert json.loads(json.dumps(dict(strategy.settings))) == strategy.settings


def test_all_is_the_whole_table_in_its_order() -> None:
    assert [strategy.name for strategy in parse_strategies(" all ")] == NAMES


def test_names_keep_their_order_whatever_the_white_space() -> None:
    assert [strategy.name for strategy in parse_strategies(" top_p,greedy ,\tbeam")] == ["top_p", "greedy", "beam"]


def test_every_unknown_name_is_reported_with_what_may_have_been_meant() -> None:
    with pytest.raises(UserError) as caught:
        parse_strategies("gredy, Top-P, zzz, greedy, greedy")
    message = str(caught.value)
    assert "'gredy'; did you mean greedy?" in message
    assert "'Top-P'; did you mean top_p?" in message
    assert "'zzz'." in message
    assert "'greedy' is there 2 times" in message
    assert all(name in message for name in NAMES)


@pytest.mark.parametrize("text", ["", " ", " , ,", "all,greedy", "all,all", "greedy,beam,greedy"])
def test_no_name_a_mixed_all_and_a_duplicate_are_errors(text: str) -> None:
    with pytest.raises(UserError, match="--strategies"):
        parse_strategies(text)


def test_importing_the_table_imports_nothing_heavy() -> None:
    program = "import sys, textgen.evaluation.strategies; print(*{'torch', 'transformers', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
