"""Names of strategies beside their points."""

import itertools
import xml.etree.ElementTree as ET

from textgen.reporting.figures import decoding


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
