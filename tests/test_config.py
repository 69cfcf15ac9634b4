"""Defaults < YAML < flags, and every problem of a YAML file at once."""

import json
import os
import subprocess
import sys
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from recipe_modules import CONFIG_CLASSES, RECIPES

from textgen.config import at_least, flag, parse, settings
from textgen.errors import UserError


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
    """Writes a YAML file, and returns the flags that read it."""

    def write(text: str, name: str = "settings.yaml") -> list[str]:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return ["--config", str(tmp_path / name)]

    return write


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
    assert parse(Both, [*flags, *before]).small.steps == steps, "a flag wins on either side of --config"


def test_the_last_of_two_files_wins_in_both_spellings(write):
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
    with pytest.raises(UserError, match=r"'steps' has no value\. Set one or delete the line"):
        parse(Both, write("steps:"))


@pytest.mark.parametrize("value", ["true", "false"])
def test_booleans_can_be_set_and_unset_in_yaml_and_by_flags(write, value):
    assert parse(Both, write(f"fast: {value}")).small.fast is (value == "true")
    assert parse(Both, [*write(f"fast: {value}"), "--no-fast"]).small.fast is False
    assert parse(Both, [*write(f"fast: {value}"), "--fast"]).small.fast is True


def test_a_list_in_yaml_is_joined_by_commas(write):
    assert parse(Both, write("name: [a, b]")).other.name == "a,b"


@dataclass(frozen=True)
class Long:
    size: int = 1
    """A description that does not fit
    into a single line."""


@dataclass(frozen=True)
class Documented:
    long: Long


def test_help_shows_a_docstring_of_several_lines_as_one_paragraph(capsys):
    with pytest.raises(SystemExit):
        parse(Documented, ["--help"])
    assert "A description that does not fit into a single line." in capsys.readouterr().out


def test_an_empty_file_changes_nothing(write):
    assert settings(parse(Both, write("# nothing\n"))) == settings(Both(Small(), Other()))


def test_all_problems_of_a_file_are_named_at_once(write):
    flags = write("stesp: 5\nfast: 1\nzzzzz: 1\nname: {first: x}\nsteps:\nrate: 0.5\n")
    with pytest.raises(UserError) as caught:
        parse(Both, flags)
    message = str(caught.value)
    assert message.startswith("5 problems:\n- ")
    assert message.count("\n- ") == 5
    assert message.count(flags[1]) == 5
    for part in (
        "unknown key 'stesp'; did you mean 'steps'?",
        "'fast: 1' must be true or false",
        "unknown key 'zzzzz'; see --help",
        "'name' contains other settings, but settings are flat",
        "'steps' has no value",
    ):
        assert part in message


def test_a_file_cannot_name_another_file(write):
    with pytest.raises(UserError, match="unknown key 'config'"):
        parse(Both, write("config: other.yaml"))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"- steps\n", "expected lines of 'setting: value', found a list"),
        (b"steps", "found a str"),
        (b"steps: [", "not valid YAML"),
        (b"name: caf\xe9", "not valid YAML"),
        (b"name: 2024-99-01", "not valid YAML: month must be in 1..12"),
        (b"name: !!python/object/apply:os.getcwd []", "not valid YAML"),
    ],
)
def test_a_file_that_is_not_a_mapping_is_a_user_error(tmp_path, content, expected):
    path = tmp_path / "settings.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        parse(Both, ["--config", str(path)])
    assert expected in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.yaml: there is no such file"):
        parse(Both, ["--config", str(tmp_path / "nowhere.yaml")])


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--stesp", "5"], "--steps"),
        (["--step", "5"], "--steps"),  # no abbreviations: their meaning would change with every new flag
        (["--steps", "many"], "--steps"),
        (["--kind", "blue"], "green"),
    ],
)
def test_an_invalid_flag_exits_with_2_and_a_suggestion(capsys, flags, expected):
    with pytest.raises(SystemExit) as caught:
        parse(Both, flags)
    assert caught.value.code == 2
    captured = capsys.readouterr()
    assert expected in captured.out + captured.err


def test_a_bad_value_in_yaml_is_an_error_like_the_flag(write, capsys):
    with pytest.raises(SystemExit) as caught:
        parse(Both, write("kind: blue"))
    assert caught.value.code == 2
    captured = capsys.readouterr()
    assert "--kind" in captured.out + captured.err


@given(
    steps=st.integers(1 - 2**63, 2**63 - 1),
    rate=st.floats(allow_nan=False),
    limit=st.none() | st.floats(allow_nan=False),
    fast=st.booleans(),
    kind=st.sampled_from(["red", "green"]),
    name=st.text(st.characters(codec="utf-8", exclude_characters="\0")),
)
def test_settings_survive_a_round_trip_through_yaml(tmp_path_factory, steps, rate, limit, fast, kind, name):
    config = Both(Small(None, steps, rate, limit, fast, kind), Other(name))
    path = tmp_path_factory.getbasetemp() / "round.yaml"
    path.write_text(yaml.safe_dump(settings(config), sort_keys=False), encoding="utf-8")
    again = parse(Both, ["--config", str(path)])
    assert settings(again) == settings(config)


URL = "https://someone:cAnArY@host/a.txt?rows=5&token=cAnArY"


def test_settings_are_kept_without_their_secrets():
    config = parse(Both, ["--name", URL])
    assert config.other.name == URL, "what is used still has them"
    assert settings(config)["name"] == "https://***@host/a.txt?rows=5&token=***"


def test_a_setting_whose_secret_was_not_kept_must_be_given_again(write):
    kept = write(f"name: {settings(Both(Small(), Other(URL)))['name']}")
    with pytest.raises(UserError, match=r"--name https://\*\*\*@host.* was not kept.* Give --name again, with"):
        parse(Both, kept)
    assert parse(Both, [*kept, "--name", URL]).other.name == URL


def test_invalid_flags_are_reported_without_secrets_and_control_characters(capfd):
    with pytest.raises(SystemExit):
        parse(Both, ["--name", URL, "--kind", "https://someone:cAnArY@host/" + 60 * "x", "--\x1b[31m"])
    printed = capfd.readouterr()
    assert "cAnArY" not in printed.out + printed.err
    assert "\x1b" not in printed.out + printed.err
    assert "--kind" in printed.err


def test_settings_are_the_same_in_every_locale():
    """In the C locale, Python has the bytes of a name as surrogates, which no file can contain."""
    assert settings(Both(Small(), Other("t\udcc3\udcabxts")))["name"] == "tëxts"
    code = "import os; from textgen.config import as_utf8; print(ascii(as_utf8(os.fsdecode(b't\\xc3\\xabxts'))))"
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == r"'t\xebxts'"


def test_settings_are_flat_in_the_order_of_the_groups_without_the_file_they_came_from():
    flat = settings(Both(Small(config="here.yaml"), Other()))
    assert list(flat) == ["steps", "rate", "limit", "fast", "kind", "name"]
    with pytest.raises(AssertionError, match="two groups have a setting called name"):
        settings(Clashing(Other(), Other()))


def test_the_flag_of_a_setting_has_dashes():
    assert flag("learning_rate") == "--learning-rate"


def test_settings_below_their_minimum_are_named_in_order():
    minimums = {"steps": 1, "rate": 0, "limit": 2}
    assert at_least(Small(steps=1, rate=0.0, limit=2.0), minimums) == []
    assert at_least(Small(steps=0, rate=-0.5, limit=1.5), minimums) == [
        "--steps 0: must be at least 1.",
        "--rate -0.5: must be at least 0.",
        "--limit 1.5: must be at least 2.",
    ]


def test_a_setting_that_is_not_a_number_has_no_minimum():
    assert at_least(Small(limit=None, kind="red"), {"limit": 1, "kind": 1}) == []


@pytest.mark.parametrize("name", CONFIG_CLASSES)
def test_no_two_groups_of_a_recipe_have_the_same_setting(name):
    groups = typing.get_type_hints(CONFIG_CLASSES[name]).values()
    names = [setting for group in groups for setting in typing.get_type_hints(group)]
    assert len(names) == len(set(names))
    assert "config" in names


@pytest.mark.parametrize("name", ["finetune", "evaluate"])
def test_the_settings_of_a_recipe_survive_yaml_and_name_the_same_directory(name, tmp_path):
    config = parse(CONFIG_CLASSES[name], ["--model", "some/model", "--data", "my texts.txt", "--seed", "7"])
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(settings(config)), encoding="utf-8")
    again = parse(CONFIG_CLASSES[name], ["--config", str(path)])
    assert again == parse(CONFIG_CLASSES[name], ["--config", str(path), "--seed", "7"])
    assert settings(again) == settings(config)
    assert again.directory().path == config.directory().path
    assert {"model", "my"} <= set(config.directory().path.name.split("-"))


@pytest.mark.parametrize("name", CONFIG_CLASSES)
def test_help_is_grouped_and_imports_no_heavy_library(name):
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
    assert "Tokens per block" in help_text
    assert "data options" in help_text


@pytest.mark.parametrize(
    ("flags", "text", "packing"),
    [
        (["--no-packing"], "", "none"),
        (["--packing", "--steps", "3"], "", "joined"),
        (["--packing"], "", "joined"),
        (["--packing", "isolated"], "packing: false", "isolated"),
        ([], "packing: false", "none"),
        ([], "packing: true", "joined"),
        ([], "packing: isolated", "isolated"),
        ([], "", "auto"),
    ],
)
def test_packing_can_be_switched_on_and_off(write, flags, text, packing):
    assert parse(CONFIG_CLASSES["finetune"], [*write(text), *flags]).data.packing == packing
