"""Figures of token-level metrics: loss by context length, and calibration."""

import xml.etree.ElementTree as ET

from textgen.reporting.figures.tokens import loss_by_position, reliability


def test_figures_are_drawn_with_their_numbers_in_the_title(token_perplexity):
    position, calibration = loss_by_position(token_perplexity), reliability(token_perplexity)
    for svg in (position, calibration):
        ET.fromstring(svg)
        assert "before" in svg
        assert "after" in svg
    assert "before from 6.00 to 4.00; after from 5.00 to 3.00" in position
    assert "expected calibration error: before 0.125, after 0.125" in calibration


def test_one_model_alone_is_drawn_too(token_perplexity):
    alone = {"model": token_perplexity["after"]}
    assert "model" in loss_by_position(alone)
    assert "model" in reliability(alone)


def test_what_was_not_measured_is_omitted(perplexity):
    for entry in ({}, {"after": perplexity(1.4)}):
        assert loss_by_position(entry) is None
        assert reliability(entry) is None
