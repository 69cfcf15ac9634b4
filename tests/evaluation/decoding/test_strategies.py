"""The table of decoding strategies."""

import json
import subprocess
import sys
from pathlib import Path

from textgen.evaluation.decoding.dispatch import DECODERS
from textgen.evaluation.decoding.strategies import DEFAULT_STRATEGIES, STRATEGIES
from textgen.evaluation.decoding.strategy_parser import RANGES, parse_strategies

TRUNCATING = ["temperature", "top_k", "top_p", "typical", "epsilon", "eta", "min_p", "top_n_sigma", "top_h", "p_less"]
STOCHASTIC = ["beam_sampling", *TRUNCATING, "mirostat", "speculative"]
BEAMS = ["beam", "diverse_beam", "beam_sampling"]
NEED_AMATEUR = ["contrastive_decoding", "speculative"]
OTHERS = ["contrastive", "contrastive_decoding", "dola", "repetition_penalty", "no_repeat_ngram", "prompt_lookup"]
NAMES = ["greedy", *BEAMS, *TRUNCATING, "mirostat", *OTHERS, "speculative"]


def test_the_table_contains_these_strategies() -> None:
    assert list(STRATEGIES) == NAMES
    assert {name for name, strategy in STRATEGIES.items() if strategy.is_stochastic} == set(STOCHASTIC)
    assert [name for name, strategy in STRATEGIES.items() if strategy.needs_amateur] == NEED_AMATEUR
    assert {strategy.decoder for strategy in STRATEGIES.values()} == set(DECODERS)
    for name, strategy in STRATEGIES.items():
        assert strategy.name == strategy.family == name
        assert strategy.main_setting is None or strategy.main_setting in strategy.settings
        assert all(RANGES[setting].contains(value) for setting, value in strategy.settings.items())
        assert strategy.source
        assert strategy.description
        assert "\n" not in strategy.description
        assert json.loads(json.dumps(dict(strategy.settings))) == strategy.settings


def test_the_documentation_has_the_same_table() -> None:
    page = (Path(__file__).parents[3] / "docs" / "evaluation.md").read_text()
    _, _, table = page.partition("| strategy | what it does | settings | source |\n")
    rows = [line.strip("| ").split(" |") for line in table.partition("\n\n")[0].splitlines()[1:]]
    assert [row[0].strip("`") for row in rows] == NAMES
    for (name, strategy), row in zip(STRATEGIES.items(), rows, strict=True):
        assert row[1].replace(" (`--amateur`)", "").replace("`", "").strip() == strategy.description, name
        settings = dict(part.split(" ") for part in row[2].strip().split(", ") if part)
        assert {key: float(value) for key, value in settings.items()} == strategy.settings, name


def test_the_default_is_a_part_of_the_table() -> None:
    names = [strategy.name for strategy in parse_strategies(DEFAULT_STRATEGIES)]
    assert len(names) == 10
    assert set(names) < set(NAMES)


def test_importing_the_table_imports_nothing_heavy() -> None:
    heavy = {"torch", "transformers", "numpy"}
    program = f"import sys, textgen.evaluation.decoding.strategies; print(*{heavy!r} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
