"""The settings of a perplexity convention, with and without a known context."""

import pytest

from textgen.evaluation.perplexity.convention import convention_problems


@pytest.mark.parametrize(
    ("convention", "stride", "context"),
    [("rolling", None, None), ("rolling", None, 32), ("strided", None, 32), ("strided", 1, 32), ("strided", 32, 32)],
)
def test_valid_settings_have_no_problems(convention, stride, context):
    assert convention_problems(convention, stride, context) == []


@pytest.mark.parametrize(
    ("convention", "stride", "problems"),
    [
        ("rolling", 8, ["--stride 8: requires --convention strided. Set it, or omit --stride."]),
        ("strided", 0, ["--stride 0: must be at least 1."]),
        ("strided", 33, ["--stride 33: exceeds the model's context. Use 32 or less."]),
        ("evaluate", None, ["--convention 'evaluate': unknown convention. Choose rolling or strided."]),
    ],
)
def test_each_invalid_setting_is_named(convention, stride, problems):
    assert convention_problems(convention, stride, 32) == problems


def test_all_problems_are_named_at_once():
    problems = convention_problems("rolling", 0)
    assert [problem.partition(": ")[2].split(" ")[0] for problem in problems] == ["requires", "must"]


def test_any_stride_fits_into_an_unknown_context():
    assert convention_problems("strided", 1_000_000) == []
