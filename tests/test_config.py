"""Defaults < YAML < flags, and every problem of a YAML file at once."""

import importlib.util
import json
import subprocess
import sys
import typing
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from textgen.config import flag, parse, settings
from textgen.errors import UserError

RECIPES = Path(__file__).parents[1] / "recipes"


@dataclass(frozen=True)
class Small:
    config: str | None = None
    steps: int = 10
    rate: float = 1e-3
    limit: float | None = 2.5
    fast: bool = False
    kind: Literal["red", "green"] = "red"


@dataclass(frozen=True)
class Other:
    name: str = "plain"


@dataclass(frozen=True)
class Both:
    small: Small
    other: Other


@dataclass(frozen=True)
class Clashing:
    one: Other
    two: Other


@pytest.fixture
def write(tmp_path: Path):
    """Writes a YAML file and gives the flags that read it."""

    def write(text: str, name: str = "settings.yaml") -> list[str]:
        (tmp_path / name).write_text(text)
        return ["--config", str(tmp_path / name)]

    return write


def recipe(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"recipe_{name}", RECIPES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look their annotations up
    spec.loader.exec_module(module)
    return module


RECIPE_CLASSES = {
    "finetune": recipe("finetune").FinetuneConfig,
    "evaluate": recipe("evaluate").EvaluateConfig,
    "make_tokenizer": recipe("make_tokenizer").MakeTokenizerConfig,
}


@pytest.mark.parametrize(
    ("text", "flags", "steps"),
    [
        (None, [], 10),
        ("steps: 20", [], 20),
        (None, ["--steps", "30"], 30),
        ("steps: 20", ["--steps", "30"], 30),
        ("steps: 20", ["--steps=30"], 30),
    ],
)
def test_flags_win_over_yaml_and_yaml_over_defaults(write, text, flags, steps):
    before = write(text) if text else []
    assert parse(Both, [*before, *flags]).small.steps == steps
    assert parse(Both, [*flags, *before]).small.steps == steps, "a flag wins wherever it stands"


def test_the_last_of_two_files_counts_in_both_spellings(write):
    first, second = write("steps: 20", "first.yaml"), write("steps: 30", "second.yaml")
    assert parse(Both, [*first, *second]).small.steps == 30
    assert parse(Both, [*second, f"--config={first[1]}"]).small.steps == 20


@pytest.mark.parametrize("text", ["1e-4", "1.0e-4", "'1e-4'", ".0001"])
def test_a_number_in_yaml_is_read_by_the_type_of_its_setting(write, text):
    rate = parse(Both, write(f"rate: {text}")).small.rate
    assert isinstance(rate, float)
    assert rate == 1e-4


def test_null_is_a_value_of_optional_settings_only(write):
    assert parse(Both, write("limit: null")).small.limit is None
    with pytest.raises(UserError, match="'steps' has no value; give one or delete the line"):
        parse(Both, write("steps:"))


@pytest.mark.parametrize("value", ["true", "false"])
def test_booleans_can_be_set_and_unset_from_both_sides(write, value):
    assert parse(Both, write(f"fast: {value}")).small.fast is (value == "true")
    assert parse(Both, [*write(f"fast: {value}"), "--no-fast"]).small.fast is False
    assert parse(Both, [*write(f"fast: {value}"), "--fast"]).small.fast is True


def test_a_list_reads_as_names_separated_by_commas(write):
    assert parse(Both, write("name: [a, b]")).other.name == "a,b"


def test_an_empty_file_changes_nothing(write):
    assert settings(parse(Both, write("# nothing\n"))) == settings(Both(Small(), Other()))


def test_all_problems_of_a_file_are_named_at_once(write):
    flags = write("stesp: 5\nfast: 1\nzzzzz: 1\nname: {first: x}\nsteps:\nrate: 0.5\n")
    with pytest.raises(UserError) as caught:
        parse(Both, flags)
    message = str(caught.value)
    assert message.count("\n- ") + 1 == 5
    assert message.count(flags[1]) == 5
    for part in (
        "unknown key 'stesp'; did you mean 'steps'?",
        "'fast: 1' should be true or false",
        "unknown key 'zzzzz'; see --help",
        "'name' has settings below it, but settings are flat",
        "'steps' has no value",
    ):
        assert part in message


def test_a_file_cannot_name_another_file(write):
    with pytest.raises(UserError, match="unknown key 'config'"):
        parse(Both, write("config: other.yaml"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"- steps\n", "expected lines of 'setting: value', found a list"),
        (b"steps", "found a str"),
        (b"steps: [", "not valid YAML"),
        (b"name: caf\xe9", "not valid YAML"),
        (b"name: 2024-99-01", "not valid YAML: month must be in 1..12"),
        (b"name: !!python/object/apply:os.getcwd []", "not valid YAML"),
    ],
)
def test_a_file_that_is_no_mapping_is_the_users_to_mend(tmp_path, content, said):
    path = tmp_path / "settings.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        parse(Both, ["--config", str(path)])
    assert said in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.yaml: there is no such file"):
        parse(Both, ["--config", str(tmp_path / "nowhere.yaml")])


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--stesp", "5"], "--steps"),
        (["--step", "5"], "--steps"),  # no abbreviations: what they mean changes with every new flag
        (["--steps", "many"], "--steps"),
        (["--kind", "blue"], "green"),
    ],
)
def test_a_flag_that_does_not_parse_exits_with_2_and_says_what_was_meant(capsys, flags, said):
    with pytest.raises(SystemExit) as caught:
        parse(Both, flags)
    assert caught.value.code == 2
    captured = capsys.readouterr()
    assert said in captured.out + captured.err


def test_a_bad_value_in_yaml_is_refused_like_the_flag(write, capsys):
    with pytest.raises(SystemExit) as caught:
        parse(Both, write("kind: blue"))
    assert caught.value.code == 2
    captured = capsys.readouterr()
    assert "--kind" in captured.out + captured.err


@given(
    steps=st.integers(),
    rate=st.floats(allow_nan=False),
    limit=st.none() | st.floats(allow_nan=False),
    fast=st.booleans(),
    kind=st.sampled_from(["red", "green"]),
    name=st.text(),
)
def test_settings_come_back_from_yaml_as_they_were(tmp_path_factory, steps, rate, limit, fast, kind, name):
    config = Both(Small(None, steps, rate, limit, fast, kind), Other(name))
    path = tmp_path_factory.getbasetemp() / "round.yaml"
    path.write_text(yaml.safe_dump(settings(config), sort_keys=False), encoding="utf-8")
    again = parse(Both, ["--config", str(path)])
    assert settings(again) == settings(config)


def test_settings_are_flat_in_the_order_of_the_rooms_without_the_file_they_came_from():
    flat = settings(Both(Small(config="here.yaml"), Other()))
    assert list(flat) == ["steps", "rate", "limit", "fast", "kind", "name"]
    with pytest.raises(AssertionError, match="two rooms own a setting called name"):
        settings(Clashing(Other(), Other()))


def test_a_setting_has_one_spelling_as_a_flag():
    assert flag("learning_rate") == "--learning-rate"


@pytest.mark.parametrize("name", RECIPE_CLASSES)
def test_no_two_rooms_of_a_recipe_own_the_same_setting(name):
    rooms = typing.get_type_hints(RECIPE_CLASSES[name]).values()
    owned = [setting for room in rooms for setting in typing.get_type_hints(room)]
    assert len(owned) == len(set(owned))
    assert "config" in owned


@pytest.mark.parametrize("name", ["finetune", "evaluate"])
def test_the_settings_of_a_recipe_round_trip_and_name_a_directory(name, tmp_path):
    config = parse(RECIPE_CLASSES[name], ["--model", "some/model", "--data", "my texts.txt", "--seed", "7"])
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(settings(config)))
    again = parse(RECIPE_CLASSES[name], ["--config", str(path)])
    assert again == parse(RECIPE_CLASSES[name], ["--config", str(path), "--seed", "7"])
    assert settings(again) == settings(config)
    assert again.directory().path == config.directory().path
    assert {"model", "my"} <= set(config.directory().path.name.split("-"))


@pytest.mark.parametrize("name", RECIPE_CLASSES)
def test_help_is_grouped_and_imports_nothing_heavy(name):
    program = """
import json, runpy, sys
script = sys.argv[1]
sys.argv = [script, "--help"]
try:
    runpy.run_path(script, run_name="__main__")
except SystemExit as ended:
    heavy = {"torch", "transformers", "accelerate", "peft", "datasets", "wandb", "matplotlib", "pandas"}
    print(json.dumps([ended.code or 0, sorted(heavy & set(sys.modules))]))
"""
    command = [sys.executable, "-c", program, str(RECIPES / f"{name}.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    help_text, _, outcome = done.stdout.strip().rpartition("\n")
    assert json.loads(outcome) == [0, []]
    assert "--block-size" in help_text
    assert "Tokens in a block" in help_text
    assert "data options" in help_text
