"""Measuring a model in one call, and its held-out loss during training."""

from dataclasses import replace

import pytest

from textgen.data.document import Document
from textgen.data.mask_coverage import MaskCoverage
from textgen.data.overlap.contamination import Contamination, SharedText
from textgen.errors import UserError
from textgen.evaluation.balance import Balance
from textgen.evaluation.config import EvaluationConfig
from textgen.evaluation.draw_documents import draw_documents
from textgen.evaluation.loaded_model import LoadedModel
from textgen.evaluation.measure_model import Evaluation
from textgen.evaluation.perplexity import score_windows, summary, token_report
from textgen.evaluation.uncertainty import bootstrap, rates

TEXTS = [
    "The cat sat on the mat, and the dog sat on the cat. " * 3,
    "Call me Ishmael. " * 4,
    "It was the best of times.",
]
DOCUMENTS = [Document(str(number), "test", text) for number, text in enumerate(TEXTS)]
DRAWN = draw_documents(DOCUMENTS)
SHORT = {"prompts": 2, "prompt_tokens": 8, "max_new_tokens": 6}


@pytest.fixture
def loaded(accelerator, tiny_gpt2, tokenizer) -> LoadedModel:
    return LoadedModel(accelerator, tiny_gpt2(initializer_range=0.3), tokenizer, 64, "tiny")


@pytest.mark.parametrize("settings", [{}, {"convention": "strided"}, {"convention": "strided", "stride": 3}])
def test_held_out_loss_equals_the_measured_perplexity(loaded, settings):
    evaluation = Evaluation(EvaluationConfig(skip_decoding=True, **settings), DRAWN, seed=0)
    perplexity = evaluation.measure(loaded).perplexity
    assert evaluation.held_out_metrics(loaded) == {
        "eval/loss": perplexity["nll_sum"] / perplexity["tokens"],
        "eval/token_perplexity": perplexity["token_perplexity"],
        "eval/bits_per_byte": perplexity["bits_per_byte"],
    }
    assert perplexity["stride"] == settings.get("stride", 32 if settings else None)


def test_held_out_loss_computes_no_intervals(loaded, monkeypatch):
    computed = []

    def counted(function):
        return lambda *args, **options: [computed.append(function), function(*args, **options)][1]

    for module, name in (
        (bootstrap, "resampled_sums"),
        (summary, "resampled_sums"),
        (token_report, "resampled_sums"),
        (summary, "rate_interval"),
        (rates, "rate_interval"),
    ):
        monkeypatch.setattr(module, name, counted(getattr(module, name)))
    evaluation = Evaluation(EvaluationConfig(skip_decoding=True), DRAWN, seed=0)
    evaluation.held_out_metrics(loaded)
    assert not computed
    evaluation.measure(loaded)
    assert computed


def test_a_measurement_has_perplexity_scores_rows_continuations_and_diagnostics(loaded):
    lines = []
    config = EvaluationConfig(strategies="greedy,top_p", **SHORT)
    measured = Evaluation(config, DRAWN, seed=0).measure(loaded, lines.append)
    assert (measured.perplexity["model"], measured.perplexity["documents"]) == ("tiny", 3)
    assert [score.id for score in measured.scores] == ["0", "1", "2"]
    assert [row["strategy"] for row in measured.decoding] == ["greedy", "top_p", "human"]
    assert len(measured.continuations) == 3 * SHORT["prompts"]
    assert [row["strategy"] for row in measured.diagnostics] == ["untruncated", "top_p"]
    assert "measuring the perplexity of tiny on 3 documents" in lines


def test_a_measurement_says_what_was_scored_and_what_there_was(loaded):
    drawn = draw_documents(DOCUMENTS, tokens=56, training_tokens=7)
    assert 1 <= len(drawn.training_documents) < len(drawn.documents) < 3
    lines = []
    evaluation = Evaluation(EvaluationConfig(strategies="greedy", **SHORT), drawn, seed=0)
    measured = evaluation.measure(loaded, lines.append)
    assert [score.id for score in measured.scores] == [document.id for document in drawn.documents]
    assert {one.prompt_id for one in measured.continuations} <= {score.id for score in measured.scores}
    assert measured.perplexity["documents"] == len(drawn.documents)
    assert measured.perplexity["documents_available"] == 3
    assert measured.perplexity["bytes_available"] == sum(len(text) for text in TEXTS) > measured.perplexity["bytes"]
    assert f"measuring the perplexity of tiny on {len(drawn.documents)} of 3 held-out documents" in lines
    during = Evaluation(EvaluationConfig(skip_decoding=True), draw_documents(drawn.training_documents), seed=0)
    assert evaluation.held_out_metrics(loaded) == during.held_out_metrics(loaded)


def test_contaminated_documents_and_retained_text_are_measured_beside(loaded):
    shared = SharedText("1", 12, 12, "t#0", "", 12)
    retained = draw_documents([Document("r#0", "r", "Some other text."), Document("r#1", "r", "And more of it.")])
    mask = MaskCoverage(10, 9, 500, 100, 3, 1, 1, 2)
    balance = Balance(Contamination(13, 10, 3, (shared,)), retained, mask)
    lines = []
    plain = Evaluation(EvaluationConfig(skip_decoding=True), DRAWN, seed=0)
    measured = replace(plain, balance=balance).measure(loaded, lines.append)
    assert {k: v for k, v in measured.perplexity.items() if k != "uncontaminated"} == plain.measure(loaded).perplexity
    clean = [score for score in measured.scores if score.id != "1"]
    assert measured.perplexity["uncontaminated"]["nll_sum"] == pytest.approx(sum(score.nll for score in clean))
    assert measured.perplexity["uncontaminated"]["documents"] == 2
    assert measured.contamination is balance.contamination
    assert measured.mask is mask
    other = Evaluation(EvaluationConfig(skip_decoding=True), retained, seed=0).measure(loaded)
    assert measured.retained
    assert measured.retained.scores == other.scores
    assert measured.retained.perplexity == {key: other.perplexity[key] for key in measured.retained.perplexity}
    assert lines[1:] == ["measuring the perplexity of tiny on 2 documents to retain"]


def test_without_decoding_there_is_perplexity_only(loaded):
    measured = Evaluation(EvaluationConfig(skip_decoding=True), DRAWN, seed=0).measure(loaded)
    assert measured.perplexity["documents"] == 3
    assert measured.decoding == measured.continuations == measured.diagnostics == []


def test_missing_prompts_are_reported_before_anything_is_measured(loaded):
    lines = []
    with pytest.raises(UserError, match="Decoding comparison: none of the 1 validation documents"):
        Evaluation(EvaluationConfig(), draw_documents([Document("0", "test", "x")]), seed=0).measure(
            loaded, lines.append
        )
    assert lines == []


def test_an_interrupted_measurement_resumes_from_the_score_cache(loaded, tmp_path, monkeypatch):
    evaluation = Evaluation(EvaluationConfig(skip_decoding=True), DRAWN, seed=0, score_cache=tmp_path / "cache")
    before = evaluation.measure(loaded)
    assert (tmp_path / "cache" / "process-0.jsonl").is_file()
    monkeypatch.setattr(score_windows, "_score_batch", lambda *_: pytest.fail("a window was scored again"))
    assert evaluation.measure(loaded).perplexity == before.perplexity
