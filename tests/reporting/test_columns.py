"""Every metric that is computed is shown, or listed as not shown; columns without values are omitted."""

import pytest

from textgen.evaluation.config import EvaluationConfig
from textgen.evaluation.decoding.prompts import Prompt
from textgen.evaluation.decoding.strategy_parser import parse_strategies
from textgen.evaluation.loaded_model import LoadedModel
from textgen.evaluation.quality.compare_strategies import compare_strategies
from textgen.evaluation.quality.text_metrics import TEXT_METRICS
from textgen.reporting.columns import METRICS, NOT_SHOWN, Column, cells, shown_metrics

SHOWN = {column.key for column in METRICS}


def test_every_text_metric_is_shown_or_listed_as_not_shown():
    assert TEXT_METRICS.keys() <= SHOWN | NOT_SHOWN
    assert TEXT_METRICS.keys() >= NOT_SHOWN
    assert not SHOWN & NOT_SHOWN


def test_every_metric_of_a_measured_row_is_shown_or_listed_as_not_shown(accelerator, tiny_gpt2, tokenizer):
    loaded = LoadedModel(accelerator, tiny_gpt2().eval(), tokenizer, context=64)
    prompts = [Prompt(f"a#{n}", (5 + n, 6, 7), "Once", (8, 9, 10, 11)) for n in range(3)]
    config = EvaluationConfig(max_new_tokens=4)
    rows, _, _ = compare_strategies(loaded, prompts, parse_strategies("greedy,top_p"), config, seed=0, judge=loaded)
    for row in rows:
        measured = {key for key in row if f"{key}_interval" in row and "_minus_" not in key}
        assert measured | {"mauve"} == SHOWN | NOT_SHOWN
        assert "mauve" in row


def test_every_shown_metric_is_described():
    assert all(column.description.endswith(".") for column in METRICS)
    assert len({column.key for column in METRICS}) == len({column.title for column in METRICS}) == len(METRICS)


def test_optional_columns_without_a_value_are_omitted(decoding_rows, compared_rows):
    few = [column.key for column in shown_metrics({"before": decoding_rows(1), "after": decoding_rows(2)})]
    assert few == [column.key for column in METRICS if not column.optional]
    assert {column.key for column in METRICS if column.optional} == {"own_nll", "judge_bits_per_byte", "mauve"}
    assert shown_metrics({"after": compared_rows(1)}) == list(METRICS)


@pytest.mark.parametrize(
    ("row", "cell"),
    [
        ({"x": 0.12345, "x_interval": [0.1, 0.2]}, ("0.123", "0.100–0.200")),
        ({"x": 0.12345, "x_interval": None}, ("0.123", "")),
        ({}, ("–", "")),
    ],
)
def test_cells_have_the_digits_of_their_column(row, cell):
    assert cells(row, [Column("x", "x", 3)]) == [cell]
