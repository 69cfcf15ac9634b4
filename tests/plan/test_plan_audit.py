"""What is said about examples before they are trained on."""

import json
from pathlib import Path
from typing import Any

from textgen.data.config import DataConfig
from textgen.data.corpus import Corpus, load_corpus
from textgen.plan.audit import describe_examples


def corpus_of(rows: list[dict[str, Any]], tokenizer: Any, path: Path) -> Corpus:
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return load_corpus(DataConfig(data=str(path), validation_fraction=0.2), tokenizer)


def test_two_examples_are_shown_and_long_ones_are_counted(tokenizer, tmp_path):
    rows = [{"prompt": f"{i} + 1? ", "completion": "x" * (90 if i < 3 else 5)} for i in range(60)]
    corpus = corpus_of(rows, tokenizer, tmp_path / "a.jsonl")
    lines = list(describe_examples(corpus, tokenizer, 64))
    assert lines[0] == "what is trained on, between [[ and ]]:"
    assert [line for line in lines if "? [[xxxxx]]" in line] == lines[2:5:2]
    longer = corpus.longer_than(64)
    assert 0 < longer <= 3
    assert lines[-1].startswith(f"{longer} of {len(corpus.offsets)} documents are longer than a block of 64 tokens")


def test_nothing_is_said_about_texts(tokenizer, tmp_path):
    corpus = corpus_of([{"text": f"Text {i}."} for i in range(60)], tokenizer, tmp_path / "a.jsonl")
    assert list(describe_examples(corpus, tokenizer, 64)) == []
