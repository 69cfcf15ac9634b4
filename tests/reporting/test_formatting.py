import math

import pytest

from textgen.reporting.formatting import interval_text, number, part_of


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (1234.5, 2, "1,234.50"),
        (-0.514, 2, "−0.51"),
        (-0.001, 2, "0.00"),
        (-1234.0, 0, "−1,234"),
        (3.4595e33, 2, "3.46e+33"),
        (None, 2, "–"),
        (math.nan, 2, "–"),
        (math.inf, 2, "–"),
        (10**400, 2, "–"),
        ("1", 2, "–"),
        (True, 2, "–"),
    ],
)
def test_numbers(value, digits, text):
    assert number(value, digits) == text


def test_a_part_of_a_whole():
    assert part_of(1812, 7943) == "1,812 of 7,943"
    assert part_of(1812, 1812) == part_of(1812, None) == "1,812"
    assert part_of(None, 7) == "– of 7"
    assert part_of(None, None) == "–"


def test_intervals():
    assert interval_text([0.91, 0.955], 2) == "0.91–0.95"
    assert interval_text([-0.55, -0.47]) == "−0.55 to −0.47"
    for missing in (None, [], [1.0], [None, 1.0], [math.nan, 1.0], "12"):
        assert interval_text(missing) == ""
