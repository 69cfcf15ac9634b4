"""Measurements: written and read back, replaced if incomplete; damaged files are errors that name file and line."""

import json
from copy import deepcopy
from dataclasses import asdict, replace
from functools import reduce
from operator import getitem
from typing import Any

import pytest

from textgen.data.mask_coverage import MaskCoverage
from textgen.data.overlap.contamination import Contamination, SharedText
from textgen.data.overlap.near_duplicates import NearDuplicate, NearDuplicates
from textgen.errors import UserError
from textgen.evaluation.balance import RetainedText
from textgen.evaluation.decoding.generate import Continuation
from textgen.evaluation.measure_model import Measurement
from textgen.evaluation.perplexity.document_sums import DocumentScore
from textgen.files import write_bytes
from textgen.reporting.card import write_model_card
from textgen.reporting.report import write_report
from textgen.reporting.results import RETAINED, EvaluationResults, RunFiles, moment_pair, moments
from textgen.run import checked_files


def measurement(bits: float = 1.5, texts: int = 2, decoding: bool = True) -> Measurement:
    scores = [DocumentScore(f"texts#{n}", bits * (n + 1), 10, 8, 40, 3, 6) for n in range(3)]
    perplexity = {"bits_per_byte": bits, "documents": len(scores)}
    if not decoding:
        return Measurement(perplexity, scores, [], [], [])
    continuations = [Continuation(f"texts#{n}", "Once", "greedy", 0, f"text {bits}", (1, 2)) for n in range(texts)]
    row = {"strategy": "greedy", "nll": bits}
    recommendation = {"strategy": "greedy", "confirmed": bits < 2}
    diagnostics = [row | {"kept_size": 4.0}]
    return Measurement(perplexity, scores, [row], continuations, diagnostics, recommendation=recommendation)


@pytest.fixture
def results(tmp_path):
    return EvaluationResults(tmp_path)


def without_checksums(results):
    """What another process reads, without the checksums that would find any damage first."""
    (results.directory / "checksums.json").unlink(missing_ok=True)
    return EvaluationResults(results.directory.parent, with_decoding=results.with_decoding)


def test_what_is_written_is_read_back(results):
    before, after = measurement(2.0), measurement(1.5)
    results.write("before", before)
    results.write("after", after)
    results.write_difference({"bits_per_byte": -0.5})
    assert results.perplexity() == {
        "before": before.perplexity, "after": after.perplexity, "difference": {"bits_per_byte": -0.5},
    }  # fmt: skip
    assert results.decoding() == {"before": before.decoding, "after": after.decoding}
    assert results.diagnostics() == {"before": before.diagnostics, "after": after.diagnostics}
    assert results.recommendation() == {"before": before.recommendation, "after": after.recommendation}
    results.write_recommended_file("after", "model/generation_config.json")
    written = {"written_to": "model/generation_config.json"}
    assert results.recommendation() == {"before": before.recommendation, "after": after.recommendation | written}
    assert results.scores("before") == before.scores
    assert results.scores("after") == after.scores
    rows = [asdict(one) | {"token_ids": [1, 2]} for one in (*before.continuations, *after.continuations)]
    assert list(results.continuations()) == [
        {"when": when, **row} for when, row in zip(["before"] * 2 + ["after"] * 2, rows, strict=True)
    ]


def test_retained_text_and_contamination_are_written_beside(results, tmp_path):
    scores = [DocumentScore("general.txt#0", 7.0, 5, 4, 20, 1, 2)]
    shared = SharedText("texts#1", 30, 15, "texts#9", "a passage", 13)
    extra = {"retained": RetainedText({"bits_per_byte": 3.0, "documents": 1}, scores)}
    extra |= {"contamination": Contamination(13, 90, 3, (shared,))}
    plain = measurement(2.0, decoding=False)
    results.write("before", replace(plain, **extra))
    assert list(results.perplexity()) == ["before", "retained"]
    results.write("after", replace(plain, **extra))
    results.write_difference({"bits_per_byte": -0.5}, {"bits_per_byte": 0.1})
    assert results.perplexity()["retained"] == {
        "before": {"bits_per_byte": 3.0, "documents": 1},
        "after": {"bits_per_byte": 3.0, "documents": 1},
        "difference": {"bits_per_byte": 0.1},
    }
    assert results.scores("after") == plain.scores
    assert results.scores("after", RETAINED) == scores
    assert results.contamination()["documents"] == [asdict(shared)]
    assert RunFiles.read(tmp_path).contamination == results.contamination()
    rows = [json.loads(line) for line in (tmp_path / "evaluation/documents.jsonl").read_text().splitlines()]
    assert [row.get("set") for row in rows] == [None, None, None, "retained"] * 2
    assert results.has("after")
    (tmp_path / "evaluation/documents.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:-1]))
    assert results.has("after"), "what was written is kept in memory"
    results = without_checksums(results)
    assert not results.has("after")
    assert results.has("before")


def test_what_was_trained_on_is_written_beside(results, tmp_path):
    mask = MaskCoverage(10, 9, 500, 100, 3, 1, 1, 2)
    assert results.mask() == {}
    results.write("before", replace(measurement(decoding=False), mask=mask))
    assert json.loads((tmp_path / "evaluation/balance.json").read_text()) == {"mask": asdict(mask)}
    assert results.mask() == RunFiles.read(tmp_path).mask == asdict(mask)
    (tmp_path / "evaluation/balance.json").write_text('{"mask": 3}')
    with pytest.raises(UserError, match=r"balance\.json"):
        without_checksums(results).mask()


@pytest.mark.parametrize("content", ['{"documents": 3}', '{"documents": [{}]}', "[]", "[" * 100_000])
def test_a_damaged_contamination_is_an_error(results, content):
    results.directory.mkdir()
    (results.directory / "contamination.json").write_text(content)
    with pytest.raises(UserError, match=r"contamination\.json"):
        results.contamination()


def test_a_contamination_without_what_the_report_shows_is_an_error(results):
    shared = SharedText("d", 20, 15, "t", "words", 15)
    near = NearDuplicates(9, 1, (NearDuplicate("a", "b", 0.9),))
    whole = json.loads(json.dumps(asdict(Contamination(13, 90, 3, (shared,), near))))
    results.directory.mkdir()
    path = results.directory / "contamination.json"
    path.write_text(json.dumps(whole))
    assert without_checksums(results).contamination() == whole
    places: list[list[Any]] = [[], ["documents", 0], ["near_duplicates"], ["near_duplicates", "examples", 0]]
    for place in places:
        for name in reduce(getitem, place, whole):
            for wrong in (None, [3], {"a": 1}):
                damaged = deepcopy(whole)
                reduce(getitem, place, damaged)[name] = wrong
                if damaged == whole or name == "training_data" or (name == "near_duplicates" and wrong is None):
                    continue
                path.write_text(json.dumps(damaged))
                with pytest.raises(UserError, match=r"contamination\.json: does not contain"):
                    without_checksums(results).contamination()


def test_both_readers_give_the_same(results, tmp_path):
    results.write("model", measurement())
    run = RunFiles.read(tmp_path)
    assert run.perplexity == results.perplexity()
    assert run.decoding == results.decoding()
    assert run.diagnostics == results.diagnostics()
    assert list(run.continuations()) == list(results.continuations())


def test_without_decoding_there_are_only_perplexity_files(results):
    results.write("model", measurement(decoding=False))
    assert sorted(path.name for path in results.directory.iterdir()) == [
        "checksums.json",
        "documents.jsonl",
        "perplexity.json",
    ]
    assert results.decoding() == results.diagnostics() == {}
    assert list(results.continuations()) == []


@pytest.mark.parametrize("name", ["perplexity.json", "documents.jsonl", "decoding.json", "continuations.jsonl"])
def test_a_measurement_that_lost_a_file_is_not_complete(tmp_path, name):
    results = EvaluationResults(tmp_path, with_decoding=True)
    results.write("before", measurement(2.0))
    assert results.has("before")
    (results.directory / name).unlink()
    assert results.files.damage() == [name]
    with pytest.raises(UserError, match=name):
        EvaluationResults(tmp_path, with_decoding=True).has("before")
    results = without_checksums(results)
    assert not results.has("before")
    results.write("before", measurement(2.0))
    assert results.has("before")


def test_an_incomplete_measurement_is_replaced(results, tmp_path, monkeypatch):
    results.write("before", measurement(2.0))

    def killed(path, data):
        if path.name == "perplexity.json":
            raise KeyboardInterrupt
        write_bytes(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(checked_files, "write_bytes", killed)
        with pytest.raises(KeyboardInterrupt):
            results.write("after", measurement(9.0, texts=3))
    results = EvaluationResults(tmp_path, with_decoding=True)
    assert results.files.damage() == [], "each file is the old or the new one"
    assert results.scores("after"), "its files were written, except the one that makes it complete"
    assert results.has("before")
    assert not results.has("after")

    after = measurement(1.5)
    results.write("after", after)
    assert results.has("after")
    assert results.scores("after") == after.scores
    assert results.decoding()["after"] == after.decoding
    assert [row["text"] for row in results.continuations()] == ["text 2.0"] * 2 + ["text 1.5"] * 2
    assert results.scores("before") == measurement(2.0).scores


def test_missing_document_scores_are_an_error_that_says_what_to_delete(results):
    results.write("before", measurement(2.0))
    (results.directory / "documents.jsonl").unlink()
    with pytest.raises(UserError, match=r"documents\.jsonl: cannot be read: .*\. Restore the file, or delete"):
        EvaluationResults(results.directory.parent).scores("before")
    results = without_checksums(results)
    with pytest.raises(UserError, match=r"documents\.jsonl: 0 documents 'before', .* Restore the file, or delete"):
        results.scores("before")


def damage(path, text):
    """Put a text in place of the second line."""
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[0], text + "\n", *lines[2:]]))


@pytest.mark.parametrize("text", ['{"when": "after", "id', '"a text"', '{"id": "x", "text": "no moment"}'])
@pytest.mark.parametrize("name", ["documents.jsonl", "continuations.jsonl"])
def test_a_damaged_row_is_an_error_that_names_file_and_line(results, name, text):
    results.write("before", measurement(2.0))
    results.write("after", measurement(1.5))
    damage(results.directory / name, text)
    with pytest.raises(UserError, match=rf"{name}: damaged: it does not match its checksum"):
        EvaluationResults(results.directory.parent).write("after", measurement(1.5))
    results = without_checksums(results)
    read = {
        "documents.jsonl": lambda: results.scores("after"),
        "continuations.jsonl": lambda: list(results.continuations()),
    }
    with pytest.raises(UserError, match=rf"{name}, line 2: "):
        read[name]()
    with pytest.raises(UserError, match=rf"{name}, line 2: "):
        results.write("after", measurement(1.5))


def test_a_row_without_a_value_that_is_needed_is_an_error_that_names_file_and_line(results):
    results.write("before", measurement(2.0))
    damage(results.directory / "documents.jsonl", '{"when": "before", "id": "texts#1", "nll": 1.0}')
    results = without_checksums(results)
    with pytest.raises(UserError, match=r"documents\.jsonl, line 2: .*tokens \(int\), words \(int\), bytes \(int\)"):
        results.scores("before")
    damage(results.directory / "continuations.jsonl", '{"when": "before", "prompt_id": "texts#1"}')
    results = without_checksums(results)
    with pytest.raises(
        UserError, match=r"continuations\.jsonl, line 2: .*strategy \(str\), sample \(int\), text \(str\)"
    ):
        list(results.continuations())


def test_a_value_of_another_type_is_an_error_that_names_file_and_line(results):
    results.write("before", measurement(2.0))
    path = results.directory / "documents.jsonl"
    path.write_text(path.read_text().replace('"nll": ', '"nll": "a", "was": '))
    results = without_checksums(results)
    with pytest.raises(UserError, match=r"documents\.jsonl, line 1: .*nll \(float\)"):
        results.scores("before")


@pytest.mark.parametrize(
    ("name", "entry"), [("perplexity", "5"), ("perplexity", "[]"), ("decoding", "{}"), ("diagnostics", "[1]")]
)
def test_an_entry_of_another_kind_is_an_error_that_names_the_file(results, name, entry):
    results.write("before", measurement())
    (results.directory / f"{name}.json").write_text(f'{{"before": {entry}}}')
    with pytest.raises(UserError, match=rf"{name}\.json: 'before' does not contain"):
        getattr(without_checksums(results), name)()


@pytest.mark.parametrize("name", ["perplexity.json", "decoding.json", "diagnostics.json"])
def test_a_damaged_json_file_is_an_error_that_names_it(results, tmp_path, name):
    results.write("before", measurement())
    (results.directory / name).write_text('{"before": {')
    results = without_checksums(results)
    for read in (
        getattr(results, name.removesuffix(".json")),
        lambda: results.write("after", measurement()),
        lambda: RunFiles.read(tmp_path),
    ):
        with pytest.raises(UserError, match=rf"{name}\b.* not valid JSON"):
            read()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("evaluation/continuations.jsonl", '{"when": 1}\n'),
        ("evaluation/perplexity.json", "{"),
        ("metrics.jsonl", "oops\n{}\n"),
        ("samples.jsonl", "oops\n{}\n"),
        ("config.yaml", "a: [\n"),
        ("environment.json", "{"),
    ],
)
def test_report_and_card_name_the_damaged_file(run_dir, name, text):
    (run_dir / name).write_text(text)
    with pytest.raises(UserError, match=name):
        write_report(run_dir)
    if name not in ("evaluation/continuations.jsonl", "samples.jsonl"):  # the card shows no texts
        with pytest.raises(UserError, match=name):
            write_model_card(run_dir)


def test_a_directory_that_does_not_exist_is_an_error(tmp_path):
    with pytest.raises(UserError, match="nowhere: no such directory"):
        RunFiles.read(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("measured", "pair"),
    [
        (["after", "difference", "before"], ("before", "after")),
        (["model", "baseline"], ("baseline", "model")),
        (["model"], (None, "model")),
        (["after"], (None, "after")),
        (["before"], (None, "before")),
        (["baseline"], (None, "baseline")),
        (["difference"], (None, None)),
    ],
)
def test_the_moments_that_are_compared(measured, pair):
    by_moment = {moment: {} for moment in measured}
    assert moment_pair(by_moment) == pair
    assert moments(by_moment) == [moment for moment in pair if moment]


def test_a_run_that_trained_is_distinguished_from_an_evaluation(run_dir, evaluation_dir):
    run, evaluation = RunFiles.read(run_dir), RunFiles.read(evaluation_dir)
    assert (run.is_fine_tuning, run.model, run.method) == (True, "tiny-gpt2", "lora")
    assert (evaluation.is_fine_tuning, evaluation.model, evaluation.method) == (False, "gpt2", "")
    (run_dir / "metrics.jsonl").unlink()
    assert RunFiles.read(run_dir).is_fine_tuning
    assert json.loads((run_dir / "environment.json").read_text()) == run.environment
