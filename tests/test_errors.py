"""Errors with one or several problems."""

import pytest

from textgen.errors import Diverged, UserError, collect_problems, first_line


def test_an_error_with_one_problem_is_its_message():
    for error in (UserError("--steps 0: must be positive."), UserError.of(["--steps 0: must be positive."])):
        assert str(error) == "--steps 0: must be positive."
        assert error.problems == ["--steps 0: must be positive."]


def test_an_error_with_several_problems_is_a_list_of_them():
    error = UserError.of(["first", "second"])
    assert str(error) == "2 problems:\n- first\n- second"
    assert error.problems == ["first", "second"]


def test_problems_of_several_checks_are_collected_in_order():
    problems = ["zeroth"]
    with collect_problems(problems):
        raise UserError.of(["first", "second"])
    with collect_problems(problems):
        raise UserError("third")
    with collect_problems(problems):
        pass
    assert problems == ["zeroth", "first", "second", "third"]


def test_other_errors_are_not_collected():
    problems: list[str] = []
    with pytest.raises(ZeroDivisionError), collect_problems(problems):
        raise ZeroDivisionError
    assert problems == []


@pytest.mark.parametrize(
    ("error", "quoted"),
    [
        (ValueError("one"), "one"),
        (ValueError("one\ntwo"), "one"),
        (OSError("\n  one\n two\n"), "one"),
        (ValueError(), "ValueError"),
        (RuntimeError(" \n"), "RuntimeError"),
    ],
)
def test_the_first_line_of_an_error_is_quoted(error, quoted):
    assert first_line(error) == quoted


def test_exit_codes():
    assert (UserError.exit_code, Diverged.exit_code) == (2, 3)


def test_messages_have_no_secrets_and_no_control_characters():
    error = UserError.of(["--data https://u:pw@h/a: x", "--model \x1b[31m: y"])
    assert error.problems == ["--data https://***@h/a: x", r"--model \x1b[31m: y"]
    assert str(error) == "2 problems:\n- --data https://***@h/a: x\n- --model \\x1b[31m: y"
