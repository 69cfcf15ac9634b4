"""Tables of token accuracy and of the hardest tokens; the report's own tests check the other tables."""

from textgen.reporting.tables.metrics import HARDEST_SHOWN, accuracy_rows, hardest_rows


def test_a_row_of_accuracy_has_values_and_intervals(token_perplexity):
    first, second = accuracy_rows(token_perplexity)
    assert first == ("before", [("0.300", "0.250–0.450"), ("0.600", "0.500–0.700"), ("0.125", "")])
    assert second[0] == "after"
    assert [name for name, _ in accuracy_rows({"model": token_perplexity["after"]})] == ["model"]


def test_the_hardest_tokens_are_rounded_and_limited(token_perplexity):
    rows = hardest_rows(token_perplexity)
    assert len(rows) == HARDEST_SHOWN
    assert (rows[0]["nll"], rows[0]["expected_probability"], rows[0]["token"]) == ("17.2", "0.50", " light")


def test_what_was_not_measured_has_no_rows(perplexity):
    for entry in ({}, {"after": perplexity(1.4)}):
        assert accuracy_rows(entry) == []
        assert hardest_rows(entry) == []
