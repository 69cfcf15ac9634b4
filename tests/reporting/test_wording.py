import math

import pytest

from textgen.reporting import wording
from textgen.reporting.results import RunFiles


@pytest.fixture
def run(run_dir):
    return RunFiles.read(run_dir)


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (1234.5, 2, "1,234.50"),
        (-0.514, 2, "−0.51"),
        (-0.001, 2, "0.00"),
        (-1234.0, 0, "−1,234"),
        (3.4595e33, 2, "3.46e+33"),
        (None, 2, "–"),
        (math.nan, 2, "–"),
        (math.inf, 2, "–"),
        ("1", 2, "–"),
        (True, 2, "–"),
    ],
)
def test_numbers(value, digits, text):
    assert wording.number(value, digits) == text


def test_intervals():
    assert wording.interval_text([0.91, 0.955], 2) == "0.91–0.95"
    assert wording.interval_text([-0.55, -0.47]) == "−0.55 to −0.47"
    for missing in (None, [], [1.0], [None, 1.0], [math.nan, 1.0], "12"):
        assert wording.interval_text(missing) == ""


def test_the_result_of_a_clear_improvement(run):
    assert wording.result(run) == (
        "Fine-tuning lowered bits per byte from 1.92 to 1.41 "
        "(−0.51, 95 % interval −0.55 to −0.47, 12 validation documents)."
    )


def test_a_change_that_could_be_chance_is_not_called_one(run):
    run.perplexity["difference"] = {"bits_per_byte": -0.003, "bits_per_byte_interval": [-0.01, 0.004]}
    result = wording.result(run)
    assert "lowered" not in result
    assert "cannot be told apart from none" in result
    assert "(−0.0030, 95 % interval −0.0100 to 0.0040" in result


def test_getting_worse_is_said(run):
    run.perplexity["difference"] = {"bits_per_byte": 0.2, "bits_per_byte_interval": [0.1, 0.3]}
    assert "raised bits per byte" in wording.result(run)
    assert "(+0.20, " in wording.result(run)


def test_without_a_difference_it_is_computed_and_the_interval_said_to_be_missing(run):
    del run.perplexity["difference"]
    assert "(−0.51, no interval was computed, " in wording.result(run)


def test_one_model_alone_and_none(run, perplexity):
    run.perplexity.clear()
    assert wording.result(run) == "No perplexity was measured in this run."
    run.perplexity["model"] = perplexity(1.5, documents=1)
    assert wording.result(run) == (
        "tiny-gpt2 has 1.500 bits per byte (95 % interval 1.455–1.545, 1 validation document)."
    )
    run.perplexity["before"] = run.perplexity.pop("model") | {"bits_per_byte": None, "bits_per_byte_interval": None}
    assert wording.result(run) == "tiny-gpt2 has – bits per byte (1 validation document)."


def test_two_models(evaluation_dir):
    run = RunFiles.read(evaluation_dir)
    assert "gpt2 has 1.420 bits per byte and the baseline 1.430" in wording.result(run)
    assert "cannot be told apart" in wording.result(run)
    run.perplexity["difference"]["bits_per_byte_interval"] = [-0.02, -0.005]
    assert "cannot be told apart" not in wording.result(run)


def test_closest_to_human():
    rows = [
        {"strategy": "human", "nll": 3.0, "length": 5, "speed": None},
        {"strategy": "a", "nll": 2.0, "length": 5, "speed": 1.0},
        {"strategy": "b", "nll": 3.5, "length": 5, "speed": 2.0},
        {"strategy": "c", "nll": None, "length": 5, "speed": 2.0},
    ]
    assert wording.closest_to_human(rows, "nll") == {"b"}
    assert wording.closest_to_human(rows, "length") == set()  # all as near: a mark on each would say nothing
    assert wording.closest_to_human(rows, "speed") == set()
    assert wording.closest_to_human(rows[1:], "nll") == set()


def test_not_told_apart():
    row = {"nll": 2.0, "nll_interval": [1.5, 2.5]}
    assert wording.not_told_apart(row, {"nll": 2.4}, "nll")
    assert not wording.not_told_apart(row, {"nll": 2.6}, "nll")
    assert not wording.not_told_apart({"nll": 2.0, "nll_interval": None}, {"nll": 2.0}, "nll")
    assert not wording.not_told_apart(row, None, "nll")


def test_a_corrected_p_value_decides_where_there_is_one():
    row = {"nll": 2.0, "nll_interval": [1.5, 2.5], "nll_minus_human_p": 0.049}
    assert not wording.not_told_apart(row, {"nll": 2.4}, "nll")
    assert wording.not_told_apart(row | {"nll_minus_human_p": 0.05}, {"nll": 9.0}, "nll")


def test_findings_say_who_is_not_distinguishable(compared_rows):
    rows = compared_rows(1)
    assert wording.findings(rows) == [
        ("diversity", "all of them differ"),
        ("nll", "not distinguishable: top_k, nucleus"),
        ("length", "not distinguishable: all of them"),
    ]
    assert wording.findings(rows, "baseline")[0] == ("diversity", "not distinguishable: beam")
    assert wording.baseline_name(rows) == "greedy"
    two = [{"strategy": "human"}, {"strategy": "a", "nll_minus_human_p": 0.9}]
    assert wording.findings(two) == [("nll", "not distinguishable: a")]
    assert wording.findings([{"strategy": "human", "nll": 1.0}, {"strategy": "a", "nll": 1.0}]) == []
    assert wording.baseline_name([]) is None


def test_how_many_prompts_would_do_is_the_largest_number_of_any_strategy(compared_rows):
    said = wording.enough_prompts(compared_rows(1))
    assert (
        "10 % of the human value wide takes this many prompts (there are 160): 311 for diversity, 311 for nll" in said
    )
    rows = [{"strategy": "human", "prompts": 4, "nll": 3.0}, {"strategy": "a", "interval_width": 0.1}]
    rows[1]["nll_prompts_needed"] = 100_000
    assert wording.enough_prompts(rows).endswith(": 100,000 for nll.")
    rows[1]["nll_prompts_needed"] = 100_001
    assert wording.enough_prompts(rows).endswith(": over 100,000 for nll.")
    assert wording.enough_prompts([]) == ""
    assert wording.enough_prompts([{"strategy": "human", "prompts": 4}, {"strategy": "a", "interval_width": 0.1}]) == ""


def test_columns_without_any_value_are_left_out_if_they_are_optional(decoding_rows, compared_rows):
    few = [metric.key for metric in wording.shown_metrics({"before": decoding_rows(1), "after": decoding_rows(2)})]
    assert "nll" in few
    assert not {"own_nll", "judge_bits_per_byte", "mauve"} & set(few)
    assert wording.shown_metrics({"after": compared_rows(1)}) == list(wording.METRICS)
    assert len(wording.METRICS) == 12


def test_control_characters_become_visible(hostile):
    shown = wording.visible("a\tb\nc" + hostile)
    assert shown.startswith("a\tb\nc<script>")
    assert "␀␛[31m␍" in shown
    assert "🙂" in shown
    shown.encode("utf-8")
    assert wording.visible("\u202etxt.exe\x85") == "\ufffdtxt.exe\ufffd"


def test_the_floor_is_told_where_there_is_one_and_only_there(perplexity):
    assert wording.over_the_floor({"before": perplexity(4.0), "after": perplexity(2.6)}) == ""
    source = {"name": "markov:seed=1", "bits_per_byte": 2.59, "bits_per_byte_interval": [2.55, 2.63]}
    known = {"source": source | {"entropy_rate": 2.578}}
    before = perplexity(4.0, excess_bits_per_byte=1.41, excess_bits_per_byte_interval=[1.3, 1.5], **known)
    after = perplexity(2.6, excess_bits_per_byte=0.01, excess_bits_per_byte_interval=[-0.01, 0.03], **known)
    text = wording.over_the_floor({"before": before, "after": after})
    assert "markov:seed=1" in text
    assert "2.590 bits per byte (95 % interval 2.550–2.630; its entropy rate is 2.578)" in text
    assert "before 1.410 (95 % interval 1.300–1.500); " in text
    assert text.endswith("after 0.010 (95 % interval −0.010 to 0.030), not distinguishable from none.")
