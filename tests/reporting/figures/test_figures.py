import itertools
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


def test_colours_come_from_the_page_and_text_stays_text(page):
    svg = page()["decoding"]
    colours = set(re.findall(r"#[0-9a-f]{6}", re.sub(r"var\([^)]*\)", "", svg)))
    assert colours == set()
    assert {"var(--ink, #1c2330)", "var(--human, #c2570c)"} <= set(re.findall(r"var\([^)]*\)", svg))
    texts = [element.text for element in ET.fromstring(svg).iter("text")]
    for strategy in ("greedy", "no_repeat_ngram", "human"):
        assert texts.count(strategy) == 1


def test_names_are_not_interpreted_as_markup_or_mathtext(decoding_rows):
    rows = decoding_rows(1)
    rows[0]["strategy"] = "a<b> & $x^2$"
    texts = [element.text for element in ET.fromstring(decoding.decoding_scatter({"model": rows})).iter("text")]
    assert "a<b> & $x^2$" in texts


def test_labels_do_not_overlap():
    rows = [{"strategy": f"strategy_{index}", "diversity": 0.5 + index / 1000, "nll": 2.0} for index in range(4)]
    rows += [{"strategy": "far", "diversity": 0.9, "nll": 4.0}]
    svg = decoding.decoding_scatter({"model": rows})
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
        curves.loss_curve([]),
        curves.loss_curve([{"step": 1, "train/loss": None}]),
        curves.perplexity_bars({}),
        curves.perplexity_bars({"model": {"bits_per_byte": 1.0}}),
        curves.perplexity_bars({"before": {"bits_per_byte": None}, "after": {"bits_per_byte": 1.0}}),
        decoding.decoding_scatter({}),
        decoding.diagnostics_scatter({}),
        decoding.diagnostics_scatter({"after": [{"strategy": "x", "kept_size": 0, "human_coverage": 1.0}]}),
        decoding.decoding_scatter({"after": [{"strategy": "greedy", "diversity": None, "nll": 1.0}]}),
    ],
)
def test_without_data_there_is_no_figure(svg):
    assert svg is None


def test_missing_values_are_skipped_and_a_single_point_is_visible(perplexity):
    assert "<use" in curves.loss_curve([{"step": 5, "train/loss": 3.0}, {"step": 6, "train/loss": None}])
    bars = curves.perplexity_bars({"before": perplexity(2.0, bits_per_byte_interval=None), "after": perplexity(1.0)})
    assert "before 2.000, after 1.000" in bars
    assert decoding.decoding_scatter({"after": [{"strategy": "greedy", "diversity": 0.0, "nll": 1.0}]})


def lines_of(svg, colour):
    """The number of points of each line drawn in a colour."""
    paths = [e for e in ET.fromstring(svg).iter("path") if f"stroke: var({colour}" in e.attrib.get("style", "")]
    return [len(re.findall("[ML]", path.attrib["d"])) for path in paths if "z" not in path.attrib["d"]]


def test_a_sweep_is_joined_in_the_order_of_its_settings(compared_rows):
    rows = compared_rows(1)
    assert [row["strategy"] for row in rows if row["family"] == "top_p"] == ["top_p[1.0]", "top_p[0.9]", "top_p[0.8]"]
    assert decoding.families(rows) == [["top_p[0.8]", "top_p[0.9]", "top_p[1.0]"]]
    svg = decoding.decoding_scatter({"model": rows})
    assert 3 in lines_of(svg, "--second")
    texts = [element.text for element in ET.fromstring(svg).iter("text")]
    assert {"top_p[0.8]", "0.9", "1.0", "human", "greedy"} <= set(texts)
    without = decoding.decoding_scatter({"model": [row for row in rows if row["family"] != "top_p"]})
    assert 3 not in lines_of(without, "--second")


def test_settings_are_sorted_as_numbers():
    rows = [{"strategy": f"top_k[{k}]", "family": "top_k", "settings": {"top_k": k}} for k in (100, 20, 3)]
    assert decoding.families(rows) == [["top_k[3]", "top_k[20]", "top_k[100]"]]
    assert decoding.short_names(rows) == {"top_k[3]": "top_k[3]", "top_k[20]": "20", "top_k[100]": "100"}


def test_the_diagnostics_figure_names_every_strategy(diagnostics_rows):
    svg = decoding.diagnostics_scatter({"before": [], "after": diagnostics_rows})
    texts = [element.text for element in ET.fromstring(svg).iter("text")]
    assert {"untruncated", "top_k", "top_p[0.8]", "0.9", "min_p", "100", "1,000"} <= set(texts)
    assert 2 in lines_of(svg, "--second")
