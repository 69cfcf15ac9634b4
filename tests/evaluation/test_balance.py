"""Figures without contaminated documents, and the text of --retain-data."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from textgen.data.config import DataConfig
from textgen.data.corpus import load_corpus
from textgen.data.document import Document
from textgen.data.mask_coverage import mask_coverage
from textgen.data.overlap.contamination import Contamination, SharedText
from textgen.data.sources import find_data
from textgen.errors import UserError
from textgen.evaluation.balance import (
    differences,
    draw_retained,
    load_balance,
    retained_difference,
    uncontaminated_summary,
)
from textgen.evaluation.config import EvaluationConfig
from textgen.evaluation.draw_documents import draw_documents
from textgen.evaluation.perplexity.document_sums import DocumentScore
from textgen.evaluation.perplexity.summary import paired_difference, perplexity_summary
from textgen.evaluation.perplexity.windows import WindowSettings

Write = Callable[[str, str], Path]
SETTINGS = WindowSettings("rolling", 64)


@pytest.fixture
def write_text(tmp_path: Path) -> Write:
    """Writes a text file, and returns its path."""

    def write(name: str, text: str) -> Path:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return write


def scores(*nll: float) -> list[DocumentScore]:
    return [DocumentScore(f"h#{n}", value, 10, 8, 40, 3, 6) for n, value in enumerate(nll)]


def contamination(*ids: str) -> Contamination:
    return Contamination(13, 100, 3, tuple(SharedText(name, 20, 15, "t#0", "", 15) for name in ids))


def test_the_summary_leaves_contaminated_documents_out() -> None:
    found = uncontaminated_summary(scores(10, 20, 30), contamination("h#0"), SETTINGS, seed=0)
    assert found == {"uncontaminated": perplexity_summary(scores(10, 20, 30)[1:], SETTINGS, seed=0)}


@pytest.mark.parametrize("found", [None, contamination(), contamination("h#0", "h#1")])
def test_without_clean_or_contaminated_documents_there_is_no_other_summary(found: Contamination | None) -> None:
    assert uncontaminated_summary(scores(10, 20), found, SETTINGS, seed=0) == {}


def test_differences_are_paired_with_and_without() -> None:
    reference, other = scores(10, 20, 30), scores(5, 19, 28)
    found = differences(reference, other, {"h#0"}, seed=0)
    assert found.pop("uncontaminated") == paired_difference(reference[1:], other[1:], seed=0)
    assert found == paired_difference(reference, other, seed=0)
    assert "uncontaminated" not in differences(reference, other, set(), seed=0)
    assert "uncontaminated" not in differences(reference, other, {"h#0", "h#1", "h#2"}, seed=0)


def test_retained_text_that_changed_is_an_error() -> None:
    assert retained_difference(scores(1, 2), scores(2, 3), seed=0) == paired_difference(
        scores(1, 2), scores(2, 3), seed=0
    )
    with pytest.raises(UserError, match="--retain-data: its text has changed"):
        retained_difference(scores(1, 2), scores(2), seed=0)


def test_retained_documents_are_drawn_as_held_out_ones(write_text: Write) -> None:
    texts = [f"Text number {n}, with some words." for n in range(50)]
    path = write_text("general.txt", "\n\n".join(texts))
    config = DataConfig(retain_data=str(path))
    sources = find_data(config)
    documents = [Document(f"general.txt#{n}", "general.txt", text) for n, text in enumerate(texts)]
    for tokens in (1, 100, "all"):
        drawn, expected = draw_retained(config, sources, tokens), draw_documents(documents, tokens)
        assert drawn
        assert list(drawn.documents) == list(expected.documents)
        assert drawn.available() == expected.available()
    assert draw_retained(DataConfig(), find_data(DataConfig()), "all") is None


def test_retained_text_that_is_empty_is_an_error(write_text: Write) -> None:
    config = DataConfig(retain_data=str(write_text("empty.jsonl", '{"text": " "}')))
    with pytest.raises(UserError, match=r"--retain-data .*empty\.jsonl: contains no text"):
        draw_retained(config, find_data(config), "all")


def test_a_balance_has_what_the_settings_ask_for(write_text: Write) -> None:
    text = " ".join(f"word{n}" for n in range(20))
    config = DataConfig(
        data=str(write_text("train.txt", text)), validation_data=str(write_text("held-out.txt", f"x {text}\n\nclean"))
    )
    sources = find_data(config)
    drawn = draw_documents([Document("held-out.txt#0", "", f"x {text}"), Document("held-out.txt#1", "", "clean")])
    balance = load_balance(config, EvaluationConfig(), sources, drawn)
    assert balance.retained is None
    assert balance.contamination
    assert balance.contamination.ids == {"held-out.txt#0"}
    assert balance.contamination.training_data == config.data, "nobody knows what the model was trained on"
    assert balance.mask is None
    assert load_balance(config, EvaluationConfig(contamination_words=0), sources, drawn).contamination is None


def test_an_evaluation_of_text_of_its_own_claims_nothing_about_training(write_text: Write) -> None:
    config = DataConfig(validation_data=str(write_text("held-out.txt", "clean")))
    drawn = draw_documents([Document("held-out.txt#0", "", "clean")])
    assert load_balance(config, EvaluationConfig(), find_data(config), drawn).contamination is None


def test_a_balance_has_what_is_trained_on_of_examples(write_text: Write, tokenizer: Any) -> None:
    rows = [json.dumps({"prompt": f"{n}? ", "completion": "Yes."}) for n in range(40)]
    config = DataConfig(data=str(write_text("a.jsonl", "\n".join(rows))), block_size=16, packing="none")
    sources, corpus = find_data(config), load_corpus(config, tokenizer)
    balance = load_balance(config, EvaluationConfig(), sources, draw_documents(corpus.validation), corpus)
    assert balance.mask == mask_coverage(corpus, 16, "none")
    assert balance.contamination
    assert balance.contamination.training_data is None
    assert balance.mask
