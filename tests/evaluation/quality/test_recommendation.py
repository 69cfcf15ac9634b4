"""The recommendation: chosen on one half of the prompts, confirmed on the other or not, with the reason."""

import json

import numpy as np
import pytest
from numpy.random import default_rng

from textgen.evaluation.decoding.strategy_parser import parse_strategies
from textgen.evaluation.quality.recommendation import METRICS, halves, recommend
from textgen.evaluation.quality.text_metrics import text_estimates
from textgen.evaluation.uncertainty.estimate import Estimate, estimate_of_mean


def estimates(prompts: int, shifts: dict[str, float], seed: int = 0) -> dict[str, dict[str, Estimate]]:
    """Strategies whose mean nll and length are so many standard deviations from those of the human text."""
    random = default_rng(seed)
    found: dict[str, dict[str, Estimate]] = {}
    for name, shift in (shifts | {"human": 0.0}).items():
        values = random.normal(shift, 1, size=(2, prompts))
        found[name] = {
            metric: estimate_of_mean(column, clusters=list(range(prompts)), seed=0)
            for metric, column in (("nll", values[0]), ("length", 50 + 9 * values[1]))
        }
    return found


def recommendation(prompts: int, shifts: dict[str, float], seed: int = 0, baseline: str | None = "greedy") -> dict:
    found = recommend(
        parse_strategies(",".join(shifts)),
        estimates(prompts, shifts, seed),
        [f"document {number}" for number in range(prompts)],
        baseline=baseline,
        seed=seed,
    )
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    return found


def test_a_strategy_that_is_closest_is_confirmed_with_its_evidence():
    found = recommendation(40, {"greedy": 3.0, "top_p": 0.1, "top_k": 2.0})
    assert (found["strategy"], found["confirmed"], found["reason"]) == ("top_p", True, None)
    assert found["settings"] == {"top_p": 0.95}
    assert found["generation_config"] == {"do_sample": True, "top_k": 0, "top_p": 0.95}
    assert (found["baseline"], found["prompts"]) == ("greedy", [20, 20])
    assert found["scales"].keys() == {"nll", "length"}
    assert found["scales"]["length"] == pytest.approx(9 * np.sqrt(2), rel=0.4)
    (near, near_2), (far, far_2) = found["distances"]["top_p"], found["distances"]["greedy"]
    assert near < 0.5 < 1.5 < far
    assert found["closer_by"] == pytest.approx(far_2 - near_2)
    low, high = found["closer_by_interval"]
    assert 0 < low < found["closer_by"] < high
    assert found["closer_by_p"] == pytest.approx(0.5 / 2_001)
    assert found["rival_p"] > 0.05


@pytest.mark.parametrize(
    ("prompts", "shifts", "reason"),
    [
        (40, {"greedy": 0.0, "top_p": 3.0}, "no other strategy is closer than greedy on the 20 prompts that choose"),
        (8, {"greedy": 9.0, "top_p": 0.0}, "8 prompts are too few (at least 9)"),
        (3, {"greedy": 9.0, "top_p": 0.0}, "3 prompts are too few (at least 9)"),
        (1, {"greedy": 9.0, "top_p": 0.0}, "1 prompt is too few (at least 9)"),
    ],
)
def test_a_recommendation_that_is_not_confirmed_has_a_reason(prompts, shifts, reason):
    found = recommendation(prompts, shifts)
    assert not found["confirmed"]
    assert found["reason"] == reason
    assert (found["strategy"] is None) == (prompts < 4)


def test_the_fewest_prompts_are_enough_for_a_large_difference():
    found = recommendation(9, {"greedy": 9.0, "top_p": 0.0})
    assert (found["prompts"], found["confirmed"], found["closer_by_p"]) == ([4, 5], True, 1 / 32)


def test_one_strategy_alone_is_not_recommended():
    found = recommendation(40, {"greedy": 0.0}, baseline=None)
    assert (found["strategy"], found["reason"]) == (None, "only one strategy was compared")


def test_a_choice_that_the_other_half_contradicts_is_not_confirmed():
    """Of two strategies equal to human on one half, one is far off on the half that confirms."""
    random, ids = default_rng(0), [f"document {number}" for number in range(60)]
    _, confirming = halves(ids, 0)
    found = {}
    for name, shift in (("greedy", 3.0), ("top_p", 0.0), ("top_k", 0.4), ("human", 0.0)):
        values = random.normal(shift, 0.2, size=60)
        values[confirming] += 2.5 if name == "top_p" else 0
        found[name] = {"nll": estimate_of_mean(values, clusters=list(range(60)), seed=0)}
    entry = recommend(parse_strategies("greedy,top_p,top_k"), found, ids, baseline="greedy", seed=0)
    assert (entry["strategy"], entry["confirmed"], entry["rival"]) == ("top_p", False, "top_k")
    assert entry["closer_by_p"] < 0.05
    assert entry["reason"].startswith("on the other 30 prompts, top_k is closer (p = ")


def test_strategies_alike_are_seldom_confirmed():
    """In truth nothing is closer than greedy: the second half does not confirm what is best on the first by chance."""
    shifts = {"greedy": 0.5, "top_p": 0.5, "top_k": 0.5, "min_p": 0.5, "eta": 0.5}
    confirmed = [recommendation(24, shifts, seed)["confirmed"] for seed in range(120)]
    assert np.mean(confirmed) < 0.05 + 2.6 * np.sqrt(0.05 * 0.95 / 120)


def test_halves_do_not_depend_on_the_order_of_the_prompts_and_differ_between_seeds():
    ids = [f"document {number}" for number in range(21)]
    first, second = halves(ids, 0)
    assert (len(first), len(second)) == (10, 11)
    assert sorted(first + second) == list(range(21))
    reverse, _ = halves(ids[::-1], 0)
    assert {ids[::-1][number] for number in reverse} == {ids[number] for number in first}
    assert halves(ids, 1) != halves(ids, 0)


def test_every_text_metric_of_the_distance_can_be_computed_for_some_of_the_prompts(random_texts):
    kinds = {"greedy": 2, "top_p": 60, "human": 50}
    lengths = default_rng(1).integers(20, 30, size=(3, 30)).tolist()
    found = {
        name: text_estimates(random_texts(30, 25, words, seed=words), lengths[words % 3], seed=0)
        for name, words in kinds.items()
    }
    entry = recommend(parse_strategies("greedy,top_p"), found, [str(n) for n in range(30)], baseline="greedy", seed=0)
    assert entry["scales"].keys() == set(METRICS) - {"nll", "judge_bits_per_byte"}
    assert (entry["strategy"], entry["confirmed"]) == ("top_p", True)
