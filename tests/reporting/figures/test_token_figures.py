"""Loss by context length, calibration, token accuracy and hardest tokens in the report."""

import xml.etree.ElementTree as ET

import pytest

from textgen.files import write_json
from textgen.reporting.figures.tokens import loss_by_position, reliability
from textgen.reporting.report import write_report
from textgen.reporting.results import RunFiles
from textgen.reporting.tables.metrics import HARDEST_SHOWN, accuracy_rows, hardest_rows


def tokens_entry(better=0.0):
    """The parts of an entry of perplexity.json that are about tokens."""
    positions = [
        {"from": 1, "to": 1, "tokens": 12, "nll": 6 - better, "nll_interval": None},
        {"from": 2, "to": 2, "tokens": 12, "nll": 5 - better, "nll_interval": [4.5, 5.5]},
        {"from": 3, "to": 4, "tokens": 24, "nll": 4 - better, "nll_interval": [3.5, 4.5]},
    ]
    bins = [
        {"from": 0.2, "to": 0.3, "tokens": 30, "confidence": 0.25, "accuracy": 0.2, "accuracy_interval": [0.1, 0.3]},
        {"from": 0.7, "to": 0.8, "tokens": 18, "confidence": 0.75, "accuracy": 0.5, "accuracy_interval": None},
    ]
    hardest = {
        "document": "plays.txt#1",
        "nll": 17.25,
        "before": "But soft, what",
        "token": " light",
        "after": " through",
    }
    hardest |= {"expected": " the", "expected_probability": 0.5}
    return {
        "top_1_accuracy": 0.3 + better / 10,
        "top_1_accuracy_interval": [0.25, 0.45],
        "top_5_accuracy": 0.6,
        "top_5_accuracy_interval": [0.5, 0.7],
        "expected_calibration_error": 0.125,
        "calibration": bins,
        "loss_by_position": positions,
        "hardest_tokens": [hardest] * 20,
    }


@pytest.fixture
def measured(perplexity):
    return {"before": perplexity(1.9) | tokens_entry(), "after": perplexity(1.4) | tokens_entry(better=1)}


def test_figures_are_drawn_with_their_numbers_in_the_title(measured):
    position, calibration = loss_by_position(measured), reliability(measured)
    for svg in (position, calibration):
        ET.fromstring(svg)
        assert "before" in svg
        assert "after" in svg
    assert "before from 6.00 to 4.00; after from 5.00 to 3.00" in position
    assert "expected calibration error: before 0.125, after 0.125" in calibration


def test_one_model_alone_is_drawn_too(measured):
    alone = {"model": measured["after"]}
    assert "model" in loss_by_position(alone)
    assert "model" in reliability(alone)
    assert [name for name, _ in accuracy_rows(alone)] == ["model"]


def test_what_was_not_measured_is_omitted(perplexity):
    for entry in ({}, {"after": perplexity(1.4)}):
        assert loss_by_position(entry) is None
        assert reliability(entry) is None
        assert accuracy_rows(entry) == []
        assert hardest_rows(entry) == []


def test_rows_of_accuracy_and_of_hardest_tokens(measured):
    assert accuracy_rows(measured)[0] == ("before", [("0.300", "0.250–0.450"), ("0.600", "0.500–0.700"), ("0.125", "")])
    rows = hardest_rows(measured)
    assert len(rows) == HARDEST_SHOWN
    assert (rows[0]["nll"], rows[0]["expected_probability"], rows[0]["token"]) == ("17.2", "0.50", " light")


def test_the_report_shows_them_escaped(run_dir, measured, hostile):
    measured["after"]["hardest_tokens"][0] = measured["after"]["hardest_tokens"][0] | {"token": hostile}
    write_json(run_dir / "evaluation" / "perplexity.json", measured)
    page = write_report(run_dir).read_text()
    for words in ("top-1 accuracy", "Loss by context length", "Hardest tokens", "plays.txt#1", "0.250–0.450"):
        assert words in page
    assert "<script>alert" not in page
    assert RunFiles.read(run_dir).perplexity["after"]["top_5_accuracy"] == 0.6
