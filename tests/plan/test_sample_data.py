"""The first rows of the data, by the flag that names it."""

import json
from pathlib import Path
from typing import Any

import pytest

from textgen.data.config import DataConfig
from textgen.data.sources import find_data
from textgen.errors import UserError
from textgen.plan.sample_data import Samples, sample_data

PAIR, TEXT = {"prompt": "a", "completion": "b"}, {"text": "Words."}
BLANK = {"prompt": "a", "completion": " "}


def write(name: str, rows: list[dict[str, Any]]) -> str:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return name


def sampled(*, training: bool = True, **data: str) -> Samples:
    config = DataConfig(**data)
    return sample_data(config, find_data(config), training=training)


def test_each_flag_has_its_own_sample():
    files = {"data": write("a.jsonl", [PAIR] * 40), "validation_data": write("b.jsonl", [TEXT])}
    found = sampled(**files, retain_data=write("c.jsonl", [PAIR]))
    assert [sample.name for sample in found.every()] == [
        "--data a.jsonl",
        "--validation-data b.jsonl",
        "--retain-data c.jsonl",
    ]
    assert [len(sample.examples) for sample in found.every()] == [16, 0, 1]
    assert [sample.setting for sample in found.scored()] == ["--validation-data", "--retain-data"]
    only = sampled(**files, training=False)
    assert [sample.setting for sample in only.every()] == ["--validation-data"], "the others are not used"


def test_part_of_the_training_data_is_scored_if_nothing_else_is():
    path = write("a.jsonl", [PAIR])
    found = sampled(data=path)
    assert found.held_out is found.train
    assert found.every() == [found.train]
    evaluated = sampled(data=path, training=False)
    assert evaluated.train is None
    assert evaluated.held_out == found.train


def test_some_of_many_files_are_looked_at_and_every_part_of_a_mixture():
    for number in range(100):
        write(f"many/{number:03}.jsonl", [TEXT])
    write("one.jsonl", [PAIR])
    write("held-out.jsonl", [TEXT])
    found = sampled(data="many:0.9,one.jsonl:0.1", validation_data="held-out.jsonl").train
    assert found
    assert len(found.documents) == 33
    assert {found.documents[0].source, found.documents[31].source} == {"000.jsonl", "099.jsonl"}
    assert len(found.examples) == 1


def test_data_of_blank_completions_is_a_user_error_that_says_so():
    path = write("a.jsonl", [BLANK] * 40)
    message = (
        r"^--data a\.jsonl: there is nothing .*\. a\.jsonl#0 \(row 1 of a\.jsonl\): the completion is blank, and all"
    )
    with pytest.raises(UserError, match=message):
        sampled(data=path)
    with pytest.raises(UserError) as caught:
        sampled(data=path, validation_data=path, retain_data=path)
    assert len(caught.value.problems) == 3


def test_one_that_is_not_blank_is_enough_wherever_it_is():
    found = sampled(data=write("a.jsonl", [*[BLANK] * 40, PAIR])).train
    assert found
    assert len(found.left_out) == 16
    assert found.documents == []


def test_plain_text_is_not_read():
    Path("a.txt").write_text("Words.", encoding="utf-8")
    assert sampled(data="a.txt").held_out.documents == []
