"""Scatter plots of the decoding strategies and of what they truncate."""

import re
import xml.etree.ElementTree as ET

import pytest

from textgen.reporting.figures import decoding


def test_names_are_not_interpreted_as_markup_or_mathtext(decoding_rows):
    rows = decoding_rows(1)
    rows[0]["strategy"] = "a<b> & $x^2$"
    texts = [element.text for element in ET.fromstring(decoding.decoding_scatter({"model": rows})).iter("text")]
    assert "a<b> & $x^2$" in texts


@pytest.mark.parametrize(
    "rows", [{}, {"after": [{"strategy": "greedy", "diversity": None, "nll": 1.0}]}], ids=["nothing", "nulls"]
)
def test_without_values_strategies_are_not_drawn(rows):
    assert decoding.decoding_scatter(rows) is None


@pytest.mark.parametrize(
    "rows", [{}, {"after": [{"strategy": "x", "kept_size": 0, "human_coverage": 1.0}]}], ids=["nothing", "zeros"]
)
def test_without_values_diagnostics_are_not_drawn(rows):
    assert decoding.diagnostics_scatter(rows) is None


def test_a_single_strategy_is_drawn():
    assert decoding.decoding_scatter({"after": [{"strategy": "greedy", "diversity": 0.0, "nll": 1.0}]})


def lines_of(svg, color):
    """The number of points of each line drawn in a color."""
    paths = [e for e in ET.fromstring(svg).iter("path") if f"stroke: var({color}" in e.attrib.get("style", "")]
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
