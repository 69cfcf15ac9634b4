import itertools
import re
import xml.etree.ElementTree as ET

import pytest

from textgen.reporting import figures

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
def page(perplexity, decoding_rows):
    """Draws all figures of a page."""
    return lambda: {
        "loss": figures.loss_curve(METRICS),
        "perplexity": figures.perplexity_bars({"before": perplexity(1.9), "after": perplexity(1.4)}),
        "decoding": figures.decoding_scatter({"before": decoding_rows(1), "after": decoding_rows(2)}),
    }


def test_every_figure_is_one_element_with_a_title_and_nothing_from_elsewhere(page):
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


def test_no_two_elements_of_a_page_share_an_id_and_every_reference_is_to_its_own_figure(page):
    ids = []
    for svg in page().values():
        own = re.findall(r'\bid="([^"]+)"', svg)
        references = re.findall(r'href="#([^"]+)"', svg) + re.findall(r"url\(#([^)]+)\)", svg)
        assert references
        assert set(references) <= set(own)
        ids += own
    assert len(ids) == len(set(ids))


def test_the_same_data_gives_the_same_bytes_whatever_was_drawn_before_and_configured(page):
    first = page()
    import matplotlib as mpl

    with mpl.rc_context({"font.size": 31, "lines.linewidth": 9, "svg.hashsalt": None}):
        assert page() == first


def test_colours_are_the_page_s_own_and_text_is_text(page):
    svg = page()["decoding"]
    colours = set(re.findall(r"#[0-9a-f]{6}", re.sub(r"var\([^)]*\)", "", svg)))
    assert colours == set()
    assert {"var(--ink, #1c2330)", "var(--human, #c2570c)"} <= set(re.findall(r"var\([^)]*\)", svg))
    texts = [element.text for element in ET.fromstring(svg).iter("text")]
    for strategy in ("greedy", "no_repeat_ngram", "human"):
        assert texts.count(strategy) == 1


def test_names_are_neither_markup_nor_mathematics(decoding_rows):
    rows = decoding_rows(1)
    rows[0]["strategy"] = "a<b> & $x^2$"
    texts = [element.text for element in ET.fromstring(figures.decoding_scatter({"model": rows})).iter("text")]
    assert "a<b> & $x^2$" in texts


def test_labels_do_not_lie_on_each_other():
    rows = [{"strategy": f"strategy_{index}", "diversity": 0.5 + index / 1000, "nll": 2.0} for index in range(4)]
    rows += [{"strategy": "far", "diversity": 0.9, "nll": 4.0}]
    svg = figures.decoding_scatter({"model": rows})
    spots = {
        element.text: (float(element.attrib["x"]), float(element.attrib["y"]))
        for element in ET.fromstring(svg).iter("text")
        if (element.text or "").startswith("strategy_")
    }
    heights = sorted(y for _, y in spots.values())
    columns = {round(x) for x, _ in spots.values()}
    assert len(spots) == 4
    assert len(columns) > 1 or min(b - a for a, b in itertools.pairwise(heights)) > 7


@pytest.mark.parametrize(
    "svg",
    [
        figures.loss_curve([]),
        figures.loss_curve([{"step": 1, "train/loss": None}]),
        figures.perplexity_bars({}),
        figures.perplexity_bars({"model": {"bits_per_byte": 1.0}}),
        figures.perplexity_bars({"before": {"bits_per_byte": None}, "after": {"bits_per_byte": 1.0}}),
        figures.decoding_scatter({}),
        figures.decoding_scatter({"after": [{"strategy": "greedy", "diversity": None, "nll": 1.0}]}),
    ],
)
def test_nothing_to_draw_draws_nothing(svg):
    assert svg is None


def test_gaps_are_left_out_and_one_point_is_seen(perplexity):
    assert "<use" in figures.loss_curve([{"step": 5, "train/loss": 3.0}, {"step": 6, "train/loss": None}])
    bars = figures.perplexity_bars({"before": perplexity(2.0, bits_per_byte_interval=None), "after": perplexity(1.0)})
    assert "before 2.000, after 1.000" in bars
    assert figures.decoding_scatter({"after": [{"strategy": "greedy", "diversity": 0.0, "nll": 1.0}]})
