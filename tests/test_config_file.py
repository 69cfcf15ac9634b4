"""Settings in YAML, also from somebody who means harm."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from textgen.config_file import read_settings
from textgen.errors import UserError, collect_problems

TYPES = {"steps": int, "name": str | None, "fast": bool}


@pytest.fixture
def write(tmp_path: Path):
    """Writes a YAML file, and returns its path."""

    def write(text: str) -> Path:
        (tmp_path / "settings.yaml").write_text(text, encoding="utf-8")
        return tmp_path / "settings.yaml"

    return write


def test_settings_are_read_as_they_would_be_written_after_flags(write):
    text = "steps: 3\nname: [a, 2]\nfast: false\n"
    assert read_settings(write(text), TYPES) == [("steps", "3"), ("name", "a,2"), ("no_fast", None)]
    assert read_settings(write("fast: true\nname: null"), TYPES) == [("fast", None), ("name", "None")]
    assert read_settings(write("# nothing"), TYPES) == []


CANARY = "canary"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"name: !!python/object/apply:os.mkdir [{CANARY}]", "not valid YAML"),
        (f"name: !!python/object/new:os.mkdir [{CANARY}]", "not valid YAML"),
        (f"!!python/object/apply:os.mkdir [{CANARY}]", "not valid YAML"),
        ("name: !!python/name:os.system", "not valid YAML"),
        ("name: !!python/module:antigravity", "not valid YAML"),
        ("[" * 5000, "nested too deeply"),
        ("name: !!binary aGVsbG8=", "contains other settings"),
        ("name: [[1, 2], 3]", "'name' is a list of lists"),
        ("steps: 0x" + "f" * 5000, "'steps' is a number that is too long"),
        ("? 0x" + "f" * 5000 + "\n: 1", "unknown key 'a very long number'"),
        ('name: "a\\0b"', "NUL"),
        ('name: "\\ud800"', "half of a character"),
        ("? [a, b]\n: 1", "not valid YAML"),
        ("x" * 1000 + ": 1", "unknown key 'xxx"),
    ],
)
def test_hostile_yaml_is_refused_and_runs_nothing(write, tmp_path, monkeypatch, text, expected):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        read_settings(write(text), TYPES)
    assert expected in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert not (tmp_path / CANARY).exists()


def test_aliases_that_would_expand_to_gigabytes_are_refused(write):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    with pytest.raises(UserError, match="is a list of lists"):
        read_settings(write("\n".join([*lines, "name: *a11"])), TYPES)


def test_a_config_that_is_a_directory_or_cannot_be_a_path_is_an_error(tmp_path):
    for path in (tmp_path, "x" * 5000):
        with pytest.raises(UserError, match="--config"):
            read_settings(Path(path), TYPES)


@given(st.text(st.sampled_from("steps: namefast-[]{}!&*#|>'\"%@,?0x1~\n\t \\u"), max_size=60) | st.text() | st.binary())
def test_any_file_is_settings_or_an_error(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    found: list[tuple[str, str | None]] = []
    problems: list[str] = []
    with collect_problems(problems):
        found = read_settings(path, TYPES)
    assert all(str(path) in problem for problem in problems)
    assert {name.removeprefix("no_") for name, _ in found} <= TYPES.keys()
