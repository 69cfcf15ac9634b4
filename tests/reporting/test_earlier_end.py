"""The record of a run that goes on has nothing that it had only because it ended."""

import pytest

from textgen.files import read_json, write_json
from textgen.reporting.earlier_end import remove_earlier_end, without_end
from textgen.reporting.jsonl import StepRecord
from textgen.reporting.results import EvaluationResults

SETTINGS = {"log_every": 2, "evaluate_every": 3, "sample_every": 4}


def row(step, *parts):
    return {"step": step} | {f"{part}/loss": 1.5 + step for part in parts}


@pytest.mark.parametrize(
    ("last", "kept"),
    [(1, None), (2, ("train",)), (3, ("eval",)), (5, None), (6, ("train", "eval"))],
)
def test_the_row_keeps_what_the_intervals_ask_for(last, kept):
    assert without_end(row(last, "train", "eval"), {"train": 2, "eval": 3}) == (row(last, *kept) if kept else None)


def test_an_interval_of_zero_asks_for_the_last_step_alone():
    assert without_end(row(5, "train", "eval"), {"train": 1, "eval": 0}) == row(5, "train")


def test_a_step_that_was_skipped_stays_on_the_record():
    skipped = row(5, "train") | {"train/skipped": 1}
    assert without_end(skipped | {"eval/loss": 2.0}, {"train": 2, "eval": 3}) == skipped


@pytest.fixture
def record(tmp_path):
    """A run that ended after step 5, with its files."""
    records = [StepRecord(tmp_path / f"{name}.jsonl") for name in ("metrics", "timing", "samples")]
    for one in (row(2, "train"), row(3, "eval"), row(4, "train"), row(5, "train", "eval")):
        records[0].append(one)
        records[1].append({"step": one["step"], "seconds": 1.0})
    for step in (0, 4, 5):
        records[2].append({"step": step, "text": "x"})
    write_json(tmp_path / "evaluation/perplexity.json", {"before": {}, "after": {}, "difference": {}})
    return records, EvaluationResults(tmp_path), tmp_path


def test_a_run_that_goes_on_loses_its_end_and_its_final_measurement(record):
    records, results, path = record
    for _ in range(2):  # a second time, after a kill, nothing more happens
        remove_earlier_end(*records, results, SETTINGS, step=5, total_steps=9)
        assert [one["step"] for one in records[0].read()] == [2, 3, 4]
        assert [one["step"] for one in records[1].read()] == [2, 3, 4]
        assert [one["step"] for one in records[2].read()] == [0, 4]
        assert read_json(path / "evaluation/perplexity.json") == {"before": {}}


@pytest.mark.parametrize("step", [0, 5])
def test_a_run_that_ends_where_it_did_keeps_everything(record, step):
    records, results, path = record
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    remove_earlier_end(*records, results, SETTINGS, step=step, total_steps=5)
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before
