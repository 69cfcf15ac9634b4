"""``--strategies``: names, settings in brackets, and error messages."""

import pytest

from textgen.errors import UserError
from textgen.evaluation.decoding.strategies import STRATEGIES
from textgen.evaluation.decoding.strategy_parser import parse_strategies


def names(text: str, *, amateur: bool = False) -> list[str]:
    return [strategy.name for strategy in parse_strategies(text, amateur=amateur)]


def test_all_is_the_whole_table_in_its_order() -> None:
    assert names(" all ", amateur=True) == list(STRATEGIES)
    assert names("all") == [name for name, strategy in STRATEGIES.items() if not strategy.needs_amateur]
    assert len(names("all")) == len(STRATEGIES) - 2


def test_names_keep_their_order_and_white_space_is_ignored() -> None:
    assert names(" top_p,greedy ,\tbeam") == ["top_p", "greedy", "beam"]


def test_all_unknown_names_are_reported_with_suggestions() -> None:
    with pytest.raises(UserError) as caught:
        parse_strategies("gredy, Top-P, zzz, greedy, greedy")
    message = str(caught.value)
    assert "unknown strategy 'gredy'; did you mean 'greedy'?" in message
    assert "unknown strategy 'Top-P'; did you mean 'top_p'?" in message
    assert "unknown strategy 'zzz'." in message
    assert "'greedy' is listed 2 times" in message
    assert all(name in message for name in STRATEGIES)


@pytest.mark.parametrize("text", ["", " ", " , ,", "all,greedy", "all,all", "greedy,beam,greedy"])
def test_no_name_all_with_others_and_duplicates_are_errors(text: str) -> None:
    with pytest.raises(UserError, match="--strategies"):
        parse_strategies(text)


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


def test_named_settings_are_combined_with_every_value_of_a_sweep() -> None:
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
        ("top_p[1.2]", "top_p '1.2': must be a number above 0 and at most 1"),
        ("top_p[nan,inf]", "top_p 'inf': must be"),
        ("top_k[0]", "top_k '0': must be an integer of at least 1"),
        ("top_k[2.5]", "top_k '2.5': must be an integer"),
        ("top_k[many]", "top_k 'many': must be"),
        ("top_p[]", "top_p '': must be"),
        ("top_p[0.9,temprature=1]", "no setting 'temprature'. Its settings: top_p, temperature"),
        ("p_less[0.5]", "'0.5': p_less has no main setting. Name one: temperature=…"),
        ("greedy[0.5]", "'0.5': greedy has no settings"),
        ("greedy[temperature=0.5]", "greedy has no setting 'temperature'. Its settings: none"),
        ("top_p[0.9,top_p=0.8]", "top_p is given both with and without its name"),
        ("top_p[temperature=1,temperature=2]", "temperature is set twice"),
        ("top_p[0.9,0.90]", "'top_p[0.9]' is listed 2 times"),
        ("top_p[0.9", "unbalanced brackets"),
        ("top_p]0.9[", "unbalanced brackets"),
        ("top_p[[0.9]]", "unbalanced brackets"),
        ("top_p[0.9]x", "unexpected text after the bracket"),
        ("top_q[0.9]", "unknown strategy 'top_q'; did you mean 'top_"),
        ("diverse_beam[0.5,num_beams=5]", "num_beams 5: must be a multiple of num_beam_groups, which is 2"),
        ("contrastive_decoding,greedy", "Set --amateur"),
        ("speculative[8]", "Set --amateur"),
    ],
)
def test_errors_name_the_problem_and_the_remedy(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_strategies(text)
    assert message in str(caught.value)
    assert "--strategies" in str(caught.value)


def test_all_invalid_settings_are_reported_at_once() -> None:
    with pytest.raises(UserError) as caught:
        parse_strategies("top_p[2,3],top_k[x],zzz,dola[plausibility=7]")
    message = str(caught.value)
    assert all(part in message for part in ("top_p '2'", "top_p '3'", "top_k 'x'", "'zzz'", "plausibility '7'"))


def test_strategies_that_need_an_amateur_are_valid_with_one() -> None:
    assert names("speculative[8],greedy", amateur=True) == ["speculative[8]", "greedy"]
