import pytest

from textgen.reporting import wording
from textgen.reporting.results import RunFiles


@pytest.fixture
def run(run_dir):
    return RunFiles.read(run_dir)


def test_a_clear_improvement(run):
    assert wording.headline(run) == (
        "Fine-tuning lowered bits per byte from 1.92 to 1.41 "
        "(−0.51, 95 % interval −0.55 to −0.47, 12 validation documents)."
    )


def test_a_change_that_could_be_chance_is_called_not_distinguishable(run):
    run.perplexity["difference"] = {"bits_per_byte": -0.003, "bits_per_byte_interval": [-0.01, 0.004]}
    assert wording.headline(run) == (
        "Fine-tuning changed bits per byte from 1.9200 to 1.4100 (−0.0030, 95 % interval −0.0100 to 0.0040, "
        "12 validation documents); the two are not distinguishable on this data."
    )


def test_a_change_for_the_worse(run):
    run.perplexity["difference"] = {"bits_per_byte": 0.2, "bits_per_byte_interval": [0.1, 0.3]}
    assert "raised bits per byte" in wording.headline(run)
    assert "(+0.20, " in wording.headline(run)


def test_without_a_paired_difference_it_is_computed_and_the_interval_is_stated_to_be_missing(run):
    del run.perplexity["difference"]
    assert "(−0.51, no interval was computed, " in wording.headline(run)


def test_one_model_alone_and_none(run, perplexity):
    run.perplexity.clear()
    assert wording.headline(run) == "No perplexity was measured in this run."
    run.perplexity["model"] = perplexity(1.5, documents=1)
    assert wording.headline(run) == (
        "tiny-gpt2 has 1.500 bits per byte (95 % interval 1.455–1.545, 1 validation document)."
    )
    run.perplexity["before"] = run.perplexity.pop("model") | {"bits_per_byte": None, "bits_per_byte_interval": None}
    assert wording.headline(run) == "tiny-gpt2 has – bits per byte (1 validation document)."


def test_a_sample_of_the_held_out_documents_is_said_to_be_one(run):
    assert "Scored were" not in wording.convention(run)
    for moment in ("before", "after"):
        run.perplexity[moment] |= {"documents_available": 34_000, "bytes_available": 58_000_000}
    assert wording.headline(run).endswith("−0.55 to −0.47, 12 of 34,000 validation documents).")
    assert "Scored were 12 of 34,000 held-out documents (20,480 of 58,000,000 bytes)" in wording.convention(run)
    run.perplexity["after"] |= {"documents_available": 12, "bytes_available": 20_480}
    assert "Scored were" not in wording.convention(run)


def test_the_setup_says_how_many_documents_are_scored_when(run):
    run.environment.update({"evaluation_documents": 12, "training_evaluation_documents": 12})
    assert dict(wording.facts(run))["Documents"] == "88 training, 12 held out"
    run.environment.update({"training_evaluation_documents": 3})
    assert dict(wording.facts(run))["Documents"] == "88 training, 12 held out, 3 scored during training"
    run.environment.update({"evaluation_documents": 7})
    assert dict(wording.facts(run))["Documents"] == "88 training, 12 held out, 7 scored, 3 scored during training"


def test_two_models(evaluation_dir):
    run = RunFiles.read(evaluation_dir)
    assert "gpt2 has 1.420 bits per byte, the baseline 1.430 (" in wording.headline(run)
    assert wording.headline(run).endswith("; the two are not distinguishable on this data.")
    run.perplexity["difference"]["bits_per_byte_interval"] = [-0.02, -0.005]
    assert "distinguishable" not in wording.headline(run)


def test_closest_to_human():
    rows = [
        {"strategy": "human", "nll": 3.0, "length": 5, "speed": None},
        {"strategy": "a", "nll": 2.0, "length": 5, "speed": 1.0},
        {"strategy": "b", "nll": 3.5, "length": 5, "speed": 2.0},
        {"strategy": "c", "nll": None, "length": 5, "speed": 2.0},
    ]
    assert wording.closest_to_human(rows, "nll") == {"b"}
    assert wording.closest_to_human(rows, "length") == set()  # all equally close: a mark on each would mean nothing
    assert wording.closest_to_human(rows, "speed") == set()
    assert wording.closest_to_human(rows[1:], "nll") == set()


def test_like_human_by_the_interval_of_the_strategy():
    row = {"nll": 2.0, "nll_interval": [1.5, 2.5]}
    assert wording.like_human(row, {"nll": 2.4}, "nll")
    assert not wording.like_human(row, {"nll": 2.6}, "nll")
    assert not wording.like_human({"nll": 2.0, "nll_interval": None}, {"nll": 2.0}, "nll")
    assert not wording.like_human(row, None, "nll")


def test_a_corrected_p_value_decides_where_there_is_one():
    row = {"nll": 2.0, "nll_interval": [1.5, 2.5], "nll_minus_human_p": 0.049}
    assert not wording.like_human(row, {"nll": 2.4}, "nll")
    assert wording.like_human(row | {"nll_minus_human_p": 0.05}, {"nll": 9.0}, "nll")


def test_findings_name_the_strategies_that_are_not_distinguishable(compared_rows):
    rows = compared_rows(1)
    assert wording.comparison_findings(rows) == [
        ("diversity", "all differ"),
        ("nll", "not distinguishable: top_k, nucleus"),
        ("length", "not distinguishable: all"),
    ]
    assert wording.comparison_findings(rows, "baseline")[0] == ("diversity", "not distinguishable: beam")
    assert wording.baseline_strategy(rows) == "greedy"
    two = [{"strategy": "human"}, {"strategy": "a", "nll_minus_human_p": 0.9}]
    assert wording.comparison_findings(two) == [("nll", "not distinguishable: a")]
    assert wording.comparison_findings([{"strategy": "human", "nll": 1.0}, {"strategy": "a", "nll": 1.0}]) == []
    assert wording.baseline_strategy([]) is None


def test_the_prompts_needed_are_the_largest_number_of_any_strategy(compared_rows):
    assert wording.prompts_needed(compared_rows(1)) == (
        "Prompts needed for a ±5 % interval on the difference from human (now 160): "
        "311 for diversity, 311 for nll, 311 for length."
    )
    rows = [{"strategy": "human", "prompts": 4, "nll": 3.0}, {"strategy": "a", "interval_width": 0.1}]
    rows[1]["nll_prompts_needed"] = 100_000
    assert wording.prompts_needed(rows).endswith(": 100,000 for nll.")
    rows[1]["nll_prompts_needed"] = 100_001
    assert wording.prompts_needed(rows).endswith(": over 100,000 for nll.")
    assert wording.prompts_needed([]) == ""
    assert wording.prompts_needed([{"strategy": "human", "prompts": 4}, {"strategy": "a", "interval_width": 0.1}]) == ""


def test_the_excess_is_stated_only_for_a_source_of_known_entropy(perplexity):
    assert wording.excess_over_entropy({"before": perplexity(4.0), "after": perplexity(2.6)}) == ""
    source = {"name": "markov:seed=1", "bits_per_byte": 2.59, "bits_per_byte_interval": [2.55, 2.63]}
    known = {"source": source | {"entropy_rate": 2.578}}
    before = perplexity(4.0, excess_bits_per_byte=1.41, excess_bits_per_byte_interval=[1.3, 1.5], **known)
    after = perplexity(2.6, excess_bits_per_byte=0.01, excess_bits_per_byte_interval=[-0.01, 0.03], **known)
    text = wording.excess_over_entropy({"before": before, "after": after})
    assert "markov:seed=1" in text
    assert "2.590 bits per byte (95 % interval 2.550–2.630; its entropy rate is 2.578)" in text
    assert "before 1.410 (95 % interval 1.300–1.500); " in text
    assert text.endswith("after 0.010 (95 % interval −0.010 to 0.030), not distinguishable from zero.")


def test_with_too_few_prompts_nothing_is_called_not_distinguishable():
    row = {"nll": 2.0, "nll_minus_human_p": 1 / 16, "smallest_p": 1 / 16, "least_prompts": 6, "prompts": 5}
    rows = [{"strategy": "human", "nll": 2.1}, *({"strategy": f"top_k[{k}]", **row} for k in range(10))]
    assert wording.too_few_prompts(rows) == (
        "5 prompts: too few to distinguish any strategy from human, however large the difference; 6 can."
    )
    assert wording.comparison_findings(rows) == []
    assert not wording.like_human(rows[1], rows[0], "nll")
    enough = [one | {"smallest_p": 1 / 32} for one in rows]
    assert wording.too_few_prompts(enough) == ""
    assert wording.comparison_findings(enough)[0][1] == "not distinguishable: all"
    assert wording.like_human(enough[1], rows[0], "nll")


def test_a_recommendation_is_stated_with_its_evidence(recommended):
    assert wording.recommendation({"before": {}, "after": recommended()}) == (
        "Recommended: nucleus (top_p 0.95). Chosen on 8 prompts and confirmed on 9 others: its distance from the human "
        "text there is 0.50, that of greedy 2.50 (p = 0.002), and no strategy is significantly closer."
    )
    written = recommended(written_to="model/generation_config.json")
    assert wording.recommendation({"after": written}).endswith(" Written to model/generation_config.json.")
    other = recommended(generation_config=None)
    assert wording.recommendation({"model": other}).endswith(" transformers cannot decode in this way.")
    assert wording.recommendation({}) == ""


def test_a_recommendation_that_is_not_confirmed_says_why(recommended):
    entry = recommended(confirmed=False, reason="8 prompts are too few (at least 9)", prompts=[4, 4])
    assert wording.recommendation({"after": entry}) == (
        "Closest to the human text on 4 of 8 prompts: nucleus (top_p 0.95). Not confirmed: 8 prompts are too few (at "
        "least 9)."
    )
    nothing = {"strategy": None, "confirmed": False, "reason": "only one strategy was compared"}
    assert wording.recommendation({"model": nothing}) == (
        "No decoding strategy is recommended: only one strategy was compared."
    )
