"""What trackers get of a run, and its names."""

import dataclasses

import pytest

from recipes.evaluate import EvaluateConfig
from recipes.finetune import FinetuneConfig
from textgen.config import parse, settings
from textgen.reporting.results import RunFiles
from textgen.reporting.tracking.rows import (
    EVALUATING,
    EVALUATION,
    FINETUNING,
    SYSTEM,
    TRAINING,
    TrackedRun,
    logged_values,
    result_values,
    strategy_key,
    tracked_row,
    tracked_rows,
)

TIMING = {"step": 7, "seconds": 2.0, "tokens_per_second": 500.0, "steps": 4, "peak_memory_bytes": 9}
TIMING |= {"evaluation_seconds": 1.5, "saving_seconds": 0.5}


@pytest.mark.parametrize(("recipe", "groups"), [(FinetuneConfig, FINETUNING), (EvaluateConfig, EVALUATING)])
def test_settings_are_grouped_as_the_recipe_groups_them(recipe, groups, tmp_path):
    config = parse(recipe, [])
    assert groups == {field.name: type(getattr(config, field.name)) for field in dataclasses.fields(config)}
    nested = TrackedRun(tmp_path, settings(config), {}, "abc").config
    for name, value in nested.items():
        assert value == {key: one for key, one in vars(getattr(config, name)).items() if key != "config"}
    assert set(nested) == set(groups)


def test_what_is_known_of_the_run_is_shown_but_no_command_and_no_file(tmp_path):
    facts = {"train_tokens": 5, "command": "finetune.py --x", "inputs": {"data": {"/home/me/a.txt": [1, "ab"]}}}
    found = TrackedRun(tmp_path, {"model": "a\x1b[31m", "other": 1}, facts, "abc").config
    assert found == {"model": {"model": "a\\x1b[31m"}, "other": 1, "environment": {"train_tokens": 5}}


def test_a_row_has_the_figures_of_the_system_of_its_step():
    row = {"step": 7, "train/loss": 2.0}
    assert tracked_row(row, TIMING) == row | {
        "system/tokens_per_second": 500.0,
        "system/seconds_per_step": 0.5,
        "system/peak_memory_bytes": 9,
        "system/evaluation_share": 0.375,
        "system/saving_share": 0.125,
    }
    assert set(tracked_row(row, TIMING)) - set(row) == set(SYSTEM)
    assert tracked_rows([{"step": 6}, row], [TIMING]) == [{"step": 6}, tracked_row(row, TIMING)]
    assert logged_values(row) == {"train/step": 7, "train/loss": 2.0}


def test_a_row_of_an_earlier_version_or_without_a_step_has_what_is_known():
    earlier = {"step": 7, "seconds": 2.0, "tokens_per_second": 500.0, "peak_memory_bytes": 9}
    assert tracked_row({"step": 7}, earlier) == {
        "step": 7, "system/tokens_per_second": 500.0, "system/peak_memory_bytes": 9
    }  # fmt: skip
    idle = TIMING | {"seconds": 0.0, "tokens_per_second": 0.0, "steps": 0, "evaluation_seconds": 0, "saving_seconds": 0}
    assert tracked_row({"step": 7}, idle) == {"step": 7, "system/peak_memory_bytes": 9}


def test_every_name_of_a_row_has_a_title(run_dir):
    names = {key for row in RunFiles.read(run_dir).metrics for key in row} - {"step"}
    assert names <= {*TRAINING, *EVALUATION}
    assert len(names) == 5


def test_results_have_every_figure_with_its_interval(run_dir, balance_dir):
    files = RunFiles.read(run_dir)
    values = result_values(files)
    assert values["before/bits_per_byte"] == 1.92
    ends = [values[f"after/word_perplexity_{end}"] for end in ("low", "high")]
    assert ends == files.perplexity["after"]["word_perplexity_interval"]
    assert [values[f"difference/bits_per_byte{end}"] for end in ("", "_low", "_high")] == [-0.51, -0.55, -0.47]
    assert values["uncontaminated/difference/bits_per_byte"] == -0.45
    assert values["retained/after/bits_per_byte"] == 2.75
    assert values["contaminated_documents"] == 2
    row = files.decoding["before"][4]
    assert values["decoding/before/nucleus/nll_high"] == row["nll_interval"][1]
    assert all(isinstance(value, int | float) for value in values.values())


def test_the_name_of_a_strategy_has_no_dot():
    assert strategy_key("top_p[0.9]") == "top_p_0_9"
    assert strategy_key("greedy") == "greedy"
    assert strategy_key(None) == "None"
    assert strategy_key("[]") == "strategy"
