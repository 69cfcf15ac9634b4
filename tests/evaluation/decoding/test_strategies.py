"""The table of strategies, and how its names are read from the command line."""

import json
import subprocess
import sys

import pytest

from textgen.errors import UserError
from textgen.evaluation.decoding.dispatch import DECODERS
from textgen.evaluation.decoding.strategies import DEFAULT_STRATEGIES, STRATEGIES
from textgen.evaluation.decoding.strategy_parser import RANGES, parse_strategies

TRUNCATING = ["temperature", "top_k", "top_p", "typical", "epsilon", "eta", "min_p", "top_n_sigma", "top_h", "p_less"]
SAMPLING = ["beam_sampling", *TRUNCATING, "mirostat", "speculative"]
BEAMS = ["beam", "diverse_beam", "beam_sampling"]
AMATEURS = ["contrastive_decoding", "speculative"]
LATER = ["contrastive", "contrastive_decoding", "dola", "repetition_penalty", "no_repeat_ngram", "prompt_lookup"]
NAMES = ["greedy", *BEAMS, *TRUNCATING, "mirostat", *LATER, "speculative"]


def test_the_table_holds_these_strategies() -> None:
    assert list(STRATEGIES) == NAMES
    assert {name for name, strategy in STRATEGIES.items() if strategy.is_stochastic} == set(SAMPLING)
    assert [name for name, strategy in STRATEGIES.items() if strategy.needs_amateur] == AMATEURS
    assert {strategy.decoder for strategy in STRATEGIES.values()} == set(DECODERS)
    for name, strategy in STRATEGIES.items():
        assert strategy.name == strategy.family == name
        assert strategy.main_setting is None or strategy.main_setting in strategy.settings
        assert all(RANGES[setting].holds(value) for setting, value in strategy.settings.items())
        assert strategy.source
        assert strategy.description
        assert "\n" not in strategy.description
        assert json.loads(json.dumps(dict(strategy.settings))) == strategy.settings


def test_all_is_the_whole_table_in_its_order() -> None:
    assert [strategy.name for strategy in parse_strategies(" all ", amateur=True)] == NAMES
    without = [name for name in NAMES if name not in AMATEURS]
    assert [strategy.name for strategy in parse_strategies("all")] == without


def test_the_default_is_a_part_of_the_table_in_its_order() -> None:
    names = [strategy.name for strategy in parse_strategies(DEFAULT_STRATEGIES)]
    assert len(names) == 10
    assert set(names) < set(NAMES)


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
    heavy = {"torch", "transformers", "numpy"}
    program = f"import sys, textgen.evaluation.decoding.strategies; print(*{heavy!r} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


# --- settings in brackets -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("top_p[0.8, 0.90,1.0],greedy", {"top_p[0.8]": 0.8, "top_p[0.9]": 0.9, "top_p[1]": 1.0, "greedy": None}),
        ("top_k[20]", {"top_k[20]": 20}),
        ("eta[eta_cutoff=6e-4]", {"eta[eta_cutoff=0.0006]": 6e-4}),
        ("top_p,top_p[0.95]", {"top_p": 0.95, "top_p[0.95]": 0.95}),
        ("beam[2,8]", {"beam[2]": 2, "beam[8]": 8}),
    ],
)
def test_brackets_sweep_the_main_setting(text: str, expected: dict[str, float]) -> None:
    found = parse_strategies(text)
    assert {s.name: s.settings[s.main_setting] if s.main_setting else None for s in found} == expected
    for strategy in found:
        original = STRATEGIES[strategy.family]
        assert strategy.name.split("[")[0] == strategy.family
        assert strategy.source == original.source
        assert all(type(value) is type(original.settings[name]) for name, value in strategy.settings.items())


def test_named_settings_go_with_every_value_of_a_sweep() -> None:
    found = parse_strategies("min_p[0.05,0.1,temperature=1.5],p_less[temperature=2],contrastive[0.4,top_k=8]")
    assert {s.name: dict(s.settings) for s in found} == {
        "min_p[0.05,temperature=1.5]": {"min_p": 0.05, "temperature": 1.5},
        "min_p[0.1,temperature=1.5]": {"min_p": 0.1, "temperature": 1.5},
        "p_less[temperature=2]": {"temperature": 2.0},
        "contrastive[0.4,top_k=8]": {"top_k": 8, "penalty_alpha": 0.4},
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("top_p[1.2]", "top_p '1.2': give a number above 0 and at most 1"),
        ("top_p[nan,inf]", "top_p 'inf': give"),
        ("top_k[0]", "top_k '0': give a whole number of at least 1"),
        ("top_k[2.5]", "top_k '2.5': give a whole number"),
        ("top_k[many]", "top_k 'many': give"),
        ("top_p[]", "top_p '': give"),
        ("top_p[0.9,temprature=1]", "no setting 'temprature'; it has top_p, temperature"),
        ("greedy[0.5]", "greedy has no main setting at all, so leave '0.5' out"),
        ("greedy[temperature=0.5]", "greedy has no setting 'temperature'; it has none"),
        ("top_p[0.9,top_p=0.8]", "say it one way"),
        ("top_p[temperature=1,temperature=2]", "temperature is set twice"),
        ("top_p[0.9,0.90]", "'top_p[0.9]' is there 2 times"),
        ("top_p[0.9", "its brackets do not match"),
        ("top_p]0.9[", "its brackets do not match"),
        ("top_p[[0.9]]", "its brackets do not match"),
        ("top_p[0.9]x", "nothing may stand after the bracket"),
        ("top_q[0.9]", "there is no strategy 'top_q'; did you mean top_"),
        ("diverse_beam[0.5,num_beams=5]", "num_beams 5 is not a multiple of num_beam_groups 2"),
        ("contrastive_decoding,greedy", "name one with --amateur"),
        ("speculative[8]", "name one with --amateur"),
    ],
)
def test_what_is_wrong_with_settings_is_said_with_a_remedy(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_strategies(text)
    assert message in str(caught.value)
    assert "--strategies" in str(caught.value)


def test_every_wrong_setting_is_reported_at_once() -> None:
    with pytest.raises(UserError) as caught:
        parse_strategies("top_p[2,3],top_k[x],zzz,dola[plausibility=7]")
    message = str(caught.value)
    assert all(part in message for part in ("top_p '2'", "top_p '3'", "top_k 'x'", "'zzz'", "plausibility '7'"))


def test_with_an_amateur_there_is_nothing_to_say() -> None:
    assert [s.name for s in parse_strategies("speculative[8],greedy", amateur=True)] == ["speculative[8]", "greedy"]
