"""Differences from human and from a baseline: keys, signs, and which p values are corrected together."""

import numpy as np
import pytest
from numpy.random import default_rng

from textgen.evaluation.quality.human_differences import baseline_of, difference_columns
from textgen.evaluation.uncertainty.estimate import estimate_of_mean
from textgen.evaluation.uncertainty.significance import difference, prompts_needed, step_down


def estimates(prompts: int = 30) -> dict:
    """Three strategies and human: the first two differ from human by noise only, the third by 1."""
    random = default_rng(0)
    hard = random.normal(5, 2, size=prompts)
    shift = {"greedy": 0.02, "top_p": 0.0, "beam": 1.0, "human": 0.0}
    found = {}
    for name, by in shift.items():
        values = hard + by + random.normal(0, 0.3, size=prompts)
        found[name] = {
            metric: estimate_of_mean(values * scale, clusters=list(range(prompts)), seed=0)
            for metric, scale in (("nll", 1.0), ("length", 10.0))
        }
    found["top_p"]["own_nll"] = found["top_p"]["nll"]
    return found


def columns(prompts: int = 30, **other) -> dict:
    given = {"interval_width": 0.1, "samples_per_prompt": dict.fromkeys(("greedy", "top_p", "beam"), 1.0), "seed": 0}
    return difference_columns(estimates(prompts), **(given | other))


def test_a_difference_beyond_noise_is_significant_and_noise_is_not():
    found = columns()
    assert list(found) == ["greedy", "top_p", "beam"]
    assert found["beam"]["nll_minus_human"] == pytest.approx(1, abs=0.2)
    assert found["beam"]["nll_minus_human_p"] == 1 / 10_001
    assert found["top_p"]["nll_minus_human_p"] > 0.05
    assert found["beam"]["nll_minus_baseline"] == pytest.approx(0.98, abs=0.2)
    for row in found.values():
        low, high = row["nll_minus_human_interval"]
        assert low < row["nll_minus_human"] < high


def test_columns_are_of_the_paired_estimates_with_p_values_corrected_within_a_metric():
    given, found = estimates(), columns()
    paired = {name: difference(given["human"]["nll"], given[name]["nll"], seed=0) for name in found}
    corrected = step_down(list(paired.values()))  # those of length are corrected apart
    assert [found[name]["nll_minus_human_p"] for name in paired] == corrected
    for name, one in paired.items():
        assert found[name]["nll_minus_human"] == one.value
        assert found[name]["nll_minus_human_interval"] == list(one.interval())
        assert found[name]["nll_prompts_needed"] == prompts_needed(one, 0.1 * given["human"]["nll"].value)
        assert found[name]["nll_samples_needed"] is None
    assert found["greedy"]["length_minus_human"] == pytest.approx(10 * found["greedy"]["nll_minus_human"])


def test_a_wider_interval_needs_fewer_prompts():
    narrow, wide = columns(interval_width=0.05)["beam"], columns(interval_width=0.1)["beam"]
    assert narrow["nll_prompts_needed"] == pytest.approx(4 * wide["nll_prompts_needed"], abs=4)


def test_the_baseline_is_greedy_or_the_first_and_is_not_compared_with_itself():
    found = columns()
    assert [row["baseline"] for row in found.values()] == [None, "greedy", "greedy"]
    assert not any("minus_baseline" in key for key in found["greedy"])
    assert baseline_of(["top_p", "greedy"]) == "greedy"
    assert baseline_of(["top_p", "beam"]) == "top_p"
    assert baseline_of(["top_p"]) is None
    assert baseline_of([]) is None


def test_a_metric_that_the_human_row_lacks_is_not_compared():
    assert not any(key.startswith("own_nll") for key in columns()["top_p"])


def test_one_prompt_has_differences_without_uncertainty():
    given = {
        name: {"nll": estimate_of_mean(np.array([x]), clusters=[0], seed=0)} for name, x in (("a", 2), ("human", 3))
    }
    (row,) = difference_columns(given, interval_width=0.1, samples_per_prompt={"a": 1.0}, seed=0).values()
    assert row["nll_minus_human"] == -1
    assert row["nll_minus_human_interval"] is row["nll_minus_human_p"] is row["nll_prompts_needed"] is None
    assert row["baseline"] is None


def test_rows_say_whether_there_are_enough_prompts_to_distinguish_any_strategy():
    few, enough = columns(prompts=5)["beam"], columns(prompts=6)["beam"]
    assert (few["smallest_p"], few["least_prompts"]) == (1 / 16, 6)
    assert few["nll_minus_human_p"] == few["smallest_p"]
    assert few["nll_minus_human_interval"] is None
    assert (enough["smallest_p"], enough["least_prompts"]) == (1 / 32, 6)
    assert enough["nll_minus_human_p"] == enough["smallest_p"] < 0.05, "although it is one of three strategies"
    assert enough["nll_minus_human_interval"][0] > 0
