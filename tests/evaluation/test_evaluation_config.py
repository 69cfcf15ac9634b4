"""Settings of the evaluation: an invalid value or combination is refused with a remedy."""

import pytest

from textgen.evaluation.config import EvaluationConfig
from textgen.model.config import ModelConfig


@pytest.mark.parametrize(
    ("invalid", "message"),
    [
        ({"stride": 8}, "--stride 8: requires --convention strided. Set it, or omit --stride."),
        ({"stride": 0, "convention": "strided"}, "--stride 0: must be at least 1."),
        ({"prompts": 0}, "--prompts 0: must be at least 1."),
        ({"prompt_tokens": -3}, "--prompt-tokens -3: must be at least 1."),
        ({"max_new_tokens": 0}, "--max-new-tokens 0: must be at least 1."),
        ({"samples": 0}, "--samples 0: must be at least 1."),
        ({"contamination_words": 1}, "--contamination-words 1: must be at least 2, such as 13, or 0 for no search."),
        ({"interval_width": 0.0}, "--interval-width 0.0: must be a positive fraction, such as 0.1."),
        ({"interval_width": float("nan")}, "--interval-width nan: must be a positive fraction, such as 0.1."),
        (
            {"judge": "gpt2", "skip_decoding": True},
            "--judge gpt2: with --skip-decoding there is nothing to judge. Omit one of them.",
        ),
    ],
)
def test_an_invalid_setting_is_named(invalid, message):
    assert EvaluationConfig(**invalid).problems() == [message]


def test_all_problems_are_reported_together():
    problems = EvaluationConfig(stride=8, samples=0, strategies="top_q,top_p[2]").problems()
    assert [problem.split(" ")[0] for problem in problems[:2]] == ["--stride", "--samples"]
    assert len(problems) == 4


def test_strategies_are_checked_even_if_they_are_skipped():
    problems = EvaluationConfig(strategies="top_q,top_p[2]", skip_decoding=True).problems()
    assert len(problems) == 2
    assert EvaluationConfig(strategies="speculative", skip_decoding=True).problems() == []


def test_second_models_are_only_those_that_will_be_used():
    model = ModelConfig(model="gpt2", revision="abc", trust_remote_code=False)
    both = EvaluationConfig(judge="large", amateur="small").second_models(model)
    assert {name: one.model for name, one in both.items()} == {"--judge": "large", "--amateur": "small"}
    assert all(one.revision is None for one in both.values())
    assert EvaluationConfig(amateur="small", skip_decoding=True).second_models(model) == {}
    assert EvaluationConfig().second_models(model) == {}
