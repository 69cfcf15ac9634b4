"""What all figures have in common: one accessible element, unique ids, the page's colors, the same bytes every time."""

import re
import xml.etree.ElementTree as ET

import pytest

from textgen.reporting.figures import curves, decoding

METRICS = [
    {
        "step": step,
        "train/loss": 4 - step / 100,
        "train/learning_rate": 1e-4 * step,
        "eval/loss": 4.1 if step == 50 else None,
    }
    for step in range(10, 101, 10)
]


@pytest.fixture
def page(perplexity, decoding_rows, diagnostics_rows):
    """Draws every kind of figure, by name."""
    return lambda: {
        "loss": curves.loss_curve(METRICS),
        "perplexity": curves.perplexity_bars({"before": perplexity(1.9), "after": perplexity(1.4)}),
        "decoding": decoding.decoding_scatter({"before": decoding_rows(1), "after": decoding_rows(2)}),
        "diagnostics": decoding.diagnostics_scatter({"model": diagnostics_rows}),
    }


def test_every_figure_is_one_element_with_a_title_and_no_external_reference(page):
    for name, svg in page().items():
        root = ET.fromstring(svg)
        assert root.tag == "svg"
        title = root[0]
        assert title.tag == "title"
        assert title.text
        assert root.attrib["aria-labelledby"] == title.attrib["id"] == f"{name}-title"
        assert root.attrib["role"] == "img"
        assert not re.search("http|xmlns|xlink|metadata|<!|<style|@import", svg)
        assert "width" not in root.attrib


def test_ids_are_unique_on_a_page_and_every_reference_stays_in_its_figure(page):
    ids = []
    for svg in page().values():
        own = re.findall(r'\bid="([^"]+)"', svg)
        references = re.findall(r'href="#([^"]+)"', svg) + re.findall(r"url\(#([^)]+)\)", svg)
        assert references
        assert set(references) <= set(own)
        ids += own
    assert len(ids) == len(set(ids))


def test_the_same_data_gives_the_same_bytes_under_any_matplotlib_settings(page):
    first = page()
    import matplotlib as mpl

    with mpl.rc_context({"font.size": 31, "lines.linewidth": 9, "svg.hashsalt": None}):
        assert page() == first


def test_colors_come_from_the_page_and_text_stays_text(page):
    svg = page()["decoding"]
    colors = set(re.findall(r"#[0-9a-f]{6}", re.sub(r"var\([^)]*\)", "", svg)))
    assert colors == set()
    assert {"var(--ink, #1c2330)", "var(--human, #c2570c)"} <= set(re.findall(r"var\([^)]*\)", svg))
    texts = [element.text for element in ET.fromstring(svg).iter("text")]
    for strategy in ("greedy", "no_repeat_ngram", "human"):
        assert texts.count(strategy) == 1
