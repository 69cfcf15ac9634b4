"""What is said about examples before they are trained on."""

import json
from pathlib import Path
from typing import Any

import pytest

from textgen.data.config import DataConfig
from textgen.data.corpus import Corpus, load_corpus
from textgen.errors import UserError
from textgen.plan.audit import describe_examples


def corpus_of(rows: list[dict[str, Any]], tokenizer: Any, path: Path) -> Corpus:
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return load_corpus(DataConfig(data=str(path), validation_fraction=0.2), tokenizer)


def test_long_examples_are_counted_and_so_are_those_that_are_left_out(tokenizer, tmp_path):
    rows = [{"prompt": f"{i} + 1? ", "completion": "x" * (90 if i < 3 else 5)} for i in range(60)]
    rows[20]["completion"] = ""
    corpus = corpus_of(rows, tokenizer, tmp_path / "a.jsonl")
    left_out, longer = describe_examples(corpus, 64, "none")
    place = "a.jsonl#20 (row 21 of a.jsonl)"
    assert left_out == f"1 row is left out, with nothing to train on; the first is {place}: the completion is blank"
    assert 0 < corpus.longer_than(64) <= 3
    start = f"{corpus.longer_than(64)} of {len(corpus.offsets)} documents are longer than a block of 64 tokens; what"
    assert longer.startswith(start)


def test_prompts_that_fill_a_block_are_counted(tokenizer, tmp_path):
    rows = [{"prompt": f"{i}" + "?" * (90 if i % 2 else 1), "completion": "x"} for i in range(60)]
    corpus = corpus_of(rows, tokenizer, tmp_path / "a.jsonl")
    longer = corpus.longer_than(64)
    (line,) = describe_examples(corpus, 64, "none")
    assert f"{longer} of {corpus.documents} documents are longer than a block of 64 tokens ({longer} by their" in line
    (line,) = describe_examples(corpus, 64, "joined")
    assert f" of {corpus.counts.examples} examples are cut at the end of a block (" in line


def test_a_block_that_every_prompt_fills_is_a_user_error(tokenizer, tmp_path):
    rows = [{"prompt": f"{i}" + "?" * 90, "completion": "x"} for i in range(60)]
    with pytest.raises(UserError, match="--block-size 64: the prompt of every example fills a block"):
        list(describe_examples(corpus_of(rows, tokenizer, tmp_path / "a.jsonl"), 64, "none"))


def test_nothing_is_said_about_texts(tokenizer, tmp_path):
    corpus = corpus_of([{"text": f"Text {i}."} for i in range(60)], tokenizer, tmp_path / "a.jsonl")
    assert list(describe_examples(corpus, 64, "joined")) == []
